"""The embedded editor: a real `FluxKontextPipeline`, small enough to be trained and sampled on two CPU cores.

It edits pictures of 96x96. The VAE makes a latent picture of 12x12 of each, so that edited and reference picture are 36
tokens both; a token stands for 16x16 pixels with 4 x 16 numbers, as in FLUX. More would tell more of the picture, and
leave a transformer of this width too little room beside them.

How it is meant to be trained, in this order:

1. The VAE alone (`pipeline.vae`), on pictures before and after edits: L1 and a small KL term (weight about 1e-7), then
   `set_latent_scale` with the latents of some thousand pictures.
2. Both text encoders alone, to tell what instructions ask for (`editr1.training.pretrain.text`).
3. Transformer and both text encoders together, by flow matching on latents of (source, right or faulty edit) that were
   encoded beforehand: x = (1 - sigma) x0 + sigma e, target e - x0, sigma from a logistic normal and through the
   scheduler's shift. The text encoders are never trained again.
4. `save_pipeline`, which writes how it is to be used beside the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from editr1.editors.base import EditorOptions
from editr1.editors.build import OPTIONS_FILE
from editr1.editors.tokenizers import learn_clip_tokenizer, learn_t5_tokenizer
from editr1.files import write_json

if TYPE_CHECKING:
    from diffusers import FluxKontextPipeline
    from torch import Tensor

SIDE = 96
"""Of the pictures, in pixels."""

TEXT_TOKENS = 40
"""Prompts are this long, padding included: the longest instruction of the domain and some room."""

HEAD = 64
"""Width of an attention head: few and wide ones are faster on CPUs."""

SHIFT = 2.0
"""Of the schedule towards noise. Fixed: the shift by number of tokens is made for 256 and more, and there are 36."""

OPTIONS = EditorOptions(area=SIDE * SIDE, reference_area=SIDE * SIDE, steps=12, max_text_tokens=TEXT_TOKENS)


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of a sticker editor.

    Attributes:
        width: of the transformer, a multiple of HEAD.
        double, single: its blocks with two streams, and with one.
        text_width, text_layers: of the T5 encoder.
        pooled_width, pooled_layers: of the CLIP text model.
        vae: channels of its four levels.
        latent_channels: of the VAE.
        vocabulary: of either tokenizer, at most.
    """

    width: int
    double: int
    single: int
    text_width: int
    text_layers: int
    pooled_width: int
    pooled_layers: int
    vae: tuple[int, int, int, int]
    latent_channels: int
    vocabulary: int


SIZES: dict[str, Size] = {
    "small": Size(192, 2, 4, 192, 3, 128, 2, (16, 32, 64, 128), 16, 1024),
    "large": Size(256, 2, 5, 256, 2, 128, 2, (32, 64, 96, 128), 16, 1024),
}


def make_sticker_kontext(size: str, texts: Iterable[str], *, seed: int = 0) -> FluxKontextPipeline:
    """A pipeline with fresh weights, float32, on the CPU; `save_pretrained` writes it as any other.

    Args:
        size: a key of SIZES: "small" has about 9 M parameters in all, "large" about 16 M.
        texts: what the tokenizers are learnt from: some thousand instructions of the domain.
        seed: of the weights; the global random state is left as it was.

    Raises:
        KeyError: if the size is unknown.
    """
    dims = SIZES[size]
    texts = list(texts)
    clip = learn_clip_tokenizer(texts, dims.vocabulary, TEXT_TOKENS)
    t5 = learn_t5_tokenizer(texts, dims.vocabulary, TEXT_TOKENS)
    pipeline: Any = assemble_kontext(
        clip,
        t5,
        transformer={
            "in_channels": 4 * dims.latent_channels,
            "num_layers": dims.double,
            "num_single_layers": dims.single,
            "num_attention_heads": dims.width // HEAD,
            "attention_head_dim": HEAD,
            "axes_dims_rope": (8, 28, 28),
        },
        vae={
            "block_out_channels": dims.vae,
            "latent_channels": dims.latent_channels,
            "norm_num_groups": 1,  # of few channels, groups lose how bright and how saturated the picture is
            "sample_size": SIDE,
        },
        text={
            "hidden_size": dims.pooled_width,
            "intermediate_size": 3 * dims.pooled_width,
            "num_hidden_layers": dims.pooled_layers,
            "num_attention_heads": dims.pooled_width // HEAD,
        },
        text_2={
            "d_model": dims.text_width,
            "d_kv": HEAD,
            "d_ff": 5 * dims.text_width // 2,
            "num_layers": dims.text_layers,
            "num_heads": dims.text_width // HEAD,
        },
        scheduler={"shift": SHIFT},
        seed=seed,
    )
    start_quietly(pipeline.transformer)
    start_as_convolutions(pipeline.vae)
    return cast("FluxKontextPipeline", pipeline)


def start_quietly(transformer: Any) -> None:
    """Let every block of a fresh transformer pass its input on, and its output be 0 (adaLN-Zero, as DiT has it).

    Without, the first thousand steps go into unlearning what the random blocks do.
    """
    import torch

    silent = ("norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear", "img_mod.1", "txt_mod.1")
    with torch.no_grad():
        for name, module in transformer.named_modules():
            if name.endswith(silent) or name == "proj_out":
                module.weight.zero_()
                module.bias.zero_()


def start_as_convolutions(vae: Any) -> None:
    """Let every residual and attention block of a fresh autoencoder pass its input on: it learns in fewer steps."""
    import torch

    with torch.no_grad():
        for name, module in vae.named_modules():
            if name.endswith(("conv2", "to_out.0", "attentions.0.proj")):
                module.weight.zero_()
                module.bias.zero_()


def assemble_kontext(
    clip: Any,
    t5: Any,
    *,
    transformer: dict[str, Any],
    vae: dict[str, Any],
    text: dict[str, Any],
    text_2: dict[str, Any],
    scheduler: dict[str, Any],
    seed: int,
) -> FluxKontextPipeline:
    """A `FluxKontextPipeline` of fresh weights around two tokenizers; each dict goes to the config of its model."""
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    levels = len(vae["block_out_channels"])
    clip_config = CLIPTextConfig(
        vocab_size=len(clip),
        max_position_embeddings=clip.model_max_length,
        bos_token_id=clip.bos_token_id,
        eos_token_id=clip.eos_token_id,
        pad_token_id=clip.pad_token_id,
        **text,
    )
    t5_config = T5Config(vocab_size=len(t5), feed_forward_proj="gated-gelu", dropout_rate=0.0, **text_2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models: dict[str, Any] = {
            "vae": diffusers.AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                scaling_factor=1.0,
                shift_factor=0.0,
                use_quant_conv=False,
                use_post_quant_conv=False,
                mid_block_add_attention=True,
                force_upcast=False,
                **vae,
            ),
            "text_encoder": CLIPTextModel(clip_config),
            "text_encoder_2": T5EncoderModel(t5_config),
            "transformer": diffusers.FluxTransformer2DModel(
                patch_size=1,
                joint_attention_dim=t5_config.d_model,
                pooled_projection_dim=clip_config.hidden_size,
                **({"guidance_embeds": False} | transformer),
            ),
        }
    pipeline: Any = diffusers.FluxKontextPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**scheduler),
        tokenizer=clip,
        tokenizer_2=t5,
        **{name: model.eval() for name, model in models.items()},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def set_latent_scale(pipeline: Any, latents: Tensor) -> None:
    """Write mean and deviation of the VAE's latents into its config, so that the transformer sees unit variance.

    Args:
        pipeline: whose VAE made the latents.
        latents: (N, C, h, w), as `vae.encode(...).latent_dist.mode()` gives them, of many pictures.
    """
    pipeline.vae.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())


def save_pipeline(
    pipeline: Any, folder: str | Path, options: EditorOptions = OPTIONS, *, dtype: str | None = None
) -> Path:
    """Write a pipeline as safetensors, and `editr1.json` beside it.

    Args:
        pipeline: any of diffusers.
        folder: loadable with `DiffusionPipeline.from_pretrained` and `build_editor`.
        options: how it is to be used.
        dtype: of the weights written, e.g. "bfloat16"; as they are if None. The pipeline given stays as it is.

    Returns:
        the folder.
    """
    import copy

    import torch

    folder = Path(folder)
    if dtype is not None:
        pipeline = copy.deepcopy(pipeline)
        for model in pipeline.components.values():
            if isinstance(model, torch.nn.Module):
                torch.nn.Module.to(model, getattr(torch, dtype))  # diffusers' own warns of what it would keep: nothing
    pipeline.save_pretrained(folder, safe_serialization=True)
    write_json(folder / OPTIONS_FILE, options.model_dump(exclude_none=True))
    return folder


def count_parameters(pipeline: Any) -> dict[str, int]:
    """Parameters of each model in a pipeline, by name."""
    import torch

    models: Sequence[tuple[str, Any]] = list(pipeline.components.items())
    return {
        name: sum(p.numel() for p in model.parameters()) for name, model in models if isinstance(model, torch.nn.Module)
    }
