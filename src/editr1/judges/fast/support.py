"""Which models the engine can stand in for: it reads weights by name, so it must know exactly what it reads."""

from __future__ import annotations

from typing import Any

from torch import nn

from editr1.judges.fast.weights import is_adapted

# Layers whose weights are read: each must be a plain linear layer, or one under LoRA, not a quantiser's.
_READ = ("_proj", ".qkv", ".attn.proj", ".merger.mlp.0", ".merger.mlp.2", "lm_head")
# Settings of `generation_config` that change the logits and that the engine does not know, with their neutral values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "bad_words_ids": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "sequence_bias": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1.0),
    "num_beams": (None, 1),
}


def supports(model: Any) -> bool:
    """Whether `FastEngine` gives this model's own answers."""
    return why_unsupported(model) is None


def why_unsupported(model: Any) -> str | None:
    """The first reason why the engine cannot run a model, in a few words, or None if it can."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    if type(model) is not Qwen2_5_VLForConditionalGeneration:
        return f"{type(model).__name__} is not Qwen2_5_VLForConditionalGeneration"
    return _config_fault(model) or _weights_fault(model) or _generation_fault(model)


def _config_fault(model: Any) -> str | None:
    text, vision = model.config.text_config, model.config.vision_config
    if text.hidden_act != "silu" or vision.hidden_act != "silu":
        return "an activation other than silu"
    if (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default") != "default":
        return "scaled rotary positions"
    if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or ()):
        return "sliding-window attention in the text model"
    return None


def _weights_fault(model: Any) -> str | None:
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        return "quantised weights"
    for name, module in model.named_modules():
        if name.endswith(_READ) and type(module) is not nn.Linear and not is_adapted(module):
            return f"{name} is a {type(module).__name__}"
        if name.endswith("embed_tokens") and type(module) is not nn.Embedding:
            return f"{name} is a {type(module).__name__}"
        hooks = [hook for hook in module._forward_hooks.values() if not _asks_for_gradients(hook)]
        if hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook"):
            return f"{name or 'the model'} has hooks"
    places = {(p.device, p.dtype) for name, p in model.named_parameters() if ".lora_" not in name}
    if len(places) != 1:
        return "weights on several devices or of several types"
    device, dtype = next(iter(places))
    if device.type == "meta" or not dtype.is_floating_point:
        return f"weights of {dtype} on {device}"
    return None


def _asks_for_gradients(hook: Any) -> bool:
    """Whether it is the hook that transformers and peft put on embeddings for checkpointing; it changes no number."""
    return getattr(hook, "__name__", "") in ("make_inputs_require_grad", "make_inputs_require_grads")


def _generation_fault(model: Any) -> str | None:
    config = getattr(model, "generation_config", None)
    for name, neutral in _NEUTRAL.items():
        if getattr(config, name, None) not in neutral:
            return f"generation_config.{name} is set"
    return None
