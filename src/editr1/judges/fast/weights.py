"""Weights as the engine wants them: fused where copies are cheap, packed for oneDNN on the CPU, else as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Copies are made only of models up to this size: a fused 7B model would need its memory twice.
FUSE_UP_TO_BYTES = 512 * 2**20

Apply = Callable[[Tensor], Tensor]


class Dense:
    """One or several linear layers that read the same input, as one multiplication if fused.

    Calling it gives their outputs side by side, `(..., sum of widths)`; `split` gives them one by one.
    """

    __slots__ = ("_apply", "_parts", "widths")

    def __init__(self, layers: Sequence[nn.Linear], *, fuse: bool, pack_rows: int = 0) -> None:
        parts = [read_linear(layer) for layer in layers]
        self.widths = [weight.shape[0] for weight, _ in parts]
        if fuse and len(parts) > 1:
            biases = [bias for _, bias in parts if bias is not None]
            parts = [(torch.cat([weight for weight, _ in parts]), torch.cat(biases) if biases else None)]
        self._parts = parts
        self._apply: Apply | None = None
        if len(parts) == 1:
            weight, bias = parts[0]
            packed = _pack(weight, bias, pack_rows) if fuse and pack_rows else None
            self._apply = packed or (lambda x: F.linear(x, weight, bias))

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs side by side."""
        if self._apply is not None:
            return self._apply(x)
        return torch.cat([F.linear(x, weight, bias) for weight, bias in self._parts], dim=-1)

    def split(self, x: Tensor) -> Sequence[Tensor]:
        """The outputs of the layers, one tensor each."""
        if self._apply is not None:
            return self._apply(x).split(self.widths, dim=-1)
        return [F.linear(x, weight, bias) for weight, bias in self._parts]


def is_adapted(layer: Any) -> bool:
    """Whether it is a plain linear layer under one or several LoRA adapters of peft, whose sum can be reckoned."""
    if type(layer).__module__ != "peft.tuners.lora.layer" or type(layer.base_layer) is not nn.Linear:
        return False
    return not layer.lora_variant and not any(layer.lora_bias.values())


@torch.no_grad()
def read_linear(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear layer, the layer's own; under LoRA, a copy with what the active adapters add."""
    base = getattr(layer, "base_layer", layer)
    weight, bias = base.weight.detach(), None if base.bias is None else base.bias.detach()
    if base is layer:
        return weight, bias
    merged, wanted = set(layer.merged_adapters), set(() if layer.disable_adapters else layer.active_adapters)
    for name in layer.lora_A:
        if (name in wanted) != (name in merged):
            delta = layer.get_delta_weight(name).to(weight.dtype)
            weight = weight + delta if name in wanted else weight - delta
    return weight, bias


def _pack(weight: Tensor, bias: Tensor | None, rows: int) -> Apply | None:
    """The layer through oneDNN on weights in oneDNN's blocked layout, or None where that cannot be had.

    These are the operators that torch's own compiler emits for a frozen linear layer. They are not part of torch's
    public interface, so the result is compared with `F.linear` before it is trusted. On the CPUs that MKL was not
    tuned for they are two to three times as fast as `F.linear` in float32.
    """
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        linear = torch.ops.mkldnn._linear_pointwise
        probe = torch.linspace(-1, 1, 2 * weight.shape[1]).view(2, -1).to(weight.dtype)
        expected = F.linear(probe, weight, bias)
        result = linear(probe, packed, bias, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    tolerance = 1e-4 if weight.dtype == torch.float32 else 2e-2
    scale = max(expected.abs().max().item(), 1e-6)
    if (result.float() - expected.float()).abs().max().item() > tolerance * scale:
        return None
    return lambda x: linear(x, packed, bias, "none", [], "")


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square normalisation with a weight."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class Block:
    """A transformer block, of either tower."""

    norm_in: Norm
    qkv: Dense
    out: Dense
    norm_mlp: Norm
    gate_up: Dense
    down: Dense

    def mlp(self, x: Tensor) -> Tensor:
        """The gated feed-forward half, without its residual."""
        gate, up = self.gate_up.split(self.norm_mlp(x))
        return self.down(F.silu(gate).mul_(up))


@dataclass(frozen=True, slots=True)
class VisionWeights:
    """The vision tower."""

    patch: Tensor  # (width, channels * frames * patch * patch)
    blocks: tuple[Block, ...]
    full: frozenset[int]  # blocks that attend over the whole picture
    norm: Norm
    merge_in: Dense
    merge_out: Dense
    heads: int
    merge: int  # side of the square of patches that becomes one token
    window: int  # side of a window, in merged tokens
    inv_freq: Tensor


@dataclass(frozen=True, slots=True)
class TextWeights:
    """The text model with its output layer."""

    embed: Tensor
    blocks: tuple[Block, ...]
    norm: Norm
    head: Dense
    heads: int
    kv_heads: int
    head_dim: int
    inv_freq: Tensor
    rope_scale: float
    sections: tuple[int, ...]  # rotary dimensions that follow time, height and width


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), module.variance_epsilon)


def read_vision(model: Any, *, fuse: bool, pack_rows: int) -> VisionWeights:
    """The vision tower's weights, as they are at this moment if copied."""
    tower, config = model.model.visual, model.config.vision_config

    def dense(*layers: nn.Linear) -> Dense:
        return Dense(layers, fuse=fuse, pack_rows=pack_rows)

    blocks = tuple(
        Block(
            _norm(b.norm1),
            dense(b.attn.qkv),
            dense(b.attn.proj),
            _norm(b.norm2),
            dense(b.mlp.gate_proj, b.mlp.up_proj),
            dense(b.mlp.down_proj),
        )
        for b in tower.blocks
    )
    merger = tower.merger
    return VisionWeights(
        patch=tower.patch_embed.proj.weight.detach().flatten(1),
        blocks=blocks,
        full=frozenset(config.fullatt_block_indexes),
        norm=_norm(merger.ln_q),
        merge_in=dense(merger.mlp[0]),
        merge_out=dense(merger.mlp[2]),
        heads=config.num_heads,
        merge=config.spatial_merge_size,
        window=config.window_size // config.spatial_merge_size // config.patch_size,
        inv_freq=tower.rotary_pos_emb.inv_freq.detach().float(),
    )


def read_text(model: Any, *, fuse: bool, pack_rows: int) -> TextWeights:
    """The text model's weights, as they are at this moment if copied."""
    text, config = model.model.language_model, model.config.text_config

    def dense(*layers: nn.Linear) -> Dense:
        return Dense(layers, fuse=fuse, pack_rows=pack_rows)

    blocks = tuple(
        Block(
            _norm(b.input_layernorm),
            dense(b.self_attn.q_proj, b.self_attn.k_proj, b.self_attn.v_proj),
            dense(b.self_attn.o_proj),
            _norm(b.post_attention_layernorm),
            dense(b.mlp.gate_proj, b.mlp.up_proj),
            dense(b.mlp.down_proj),
        )
        for b in text.layers
    )
    return TextWeights(
        embed=text.embed_tokens.weight.detach(),
        blocks=blocks,
        norm=_norm(text.norm),
        head=dense(model.lm_head),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        inv_freq=text.rotary_emb.inv_freq.detach().float(),
        rope_scale=float(text.rotary_emb.attention_scaling),
        sections=tuple(config.rope_parameters["mrope_section"]),
    )


def stamp(model: Any) -> tuple[Any, ...]:
    """Changes when a parameter was replaced or written, so that copies are known to be old.

    PyTorch counts writes in place, but fused optimizers (the default of transformers' Trainer) and writes through
    `parameter.data` do not count: so the element in the middle of each parameter is looked at too. A step of training
    changes some of them; a write that spares every one of them goes unseen, and needs `FastEngine.refresh`.
    """
    parameters = list(model.parameters())
    marks = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters)
    middle = torch.stack([p.detach().reshape(-1)[p.numel() // 2].float() for p in parameters])
    return (*marks, *middle.tolist())
