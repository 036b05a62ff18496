"""Faster training of Qwen2.5-VL on pictures of one size: the vision tower's attention as one batch.

Without flash attention, transformers runs the vision tower's attention in a Python loop over pictures. When all
pictures have the same number of patches, and every block attends over a whole picture, one batched call gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # the normalisation of Qwen2.5-VL's image processor
_STD = (0.26862954, 0.26130258, 0.27577711)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


def _forward(
    self: Any,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: Any,
) -> Tensor:
    total = hidden_states.shape[0]
    pictures = cu_seqlens.shape[0] - 1
    qkv = self.qkv(hidden_states).reshape(total, 3, self.num_heads, -1)
    query, key, value = qkv.unbind(1)
    assert position_embeddings is not None
    cos, sin = (t.unsqueeze(-2).float() for t in position_embeddings)
    query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
    query, key, value = (t.reshape(pictures, -1, *t.shape[1:]).transpose(1, 2) for t in (query, key, value))
    out = _attend(query, key, value)
    return self.proj(out.transpose(1, 2).reshape(total, -1))


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention, (B, heads, L, width) each; `mask` (L, L) is added. On CPUs plain products beat the fused kernel."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, is_causal=mask is not None)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ value


def causal_products(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    """Attention function for transformers: causal, for sequences that are padded on the right."""
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    length = query.shape[2]
    mask = torch.full((length, length), float("-inf"), dtype=query.dtype, device=query.device).triu(1)
    return _attend(query, key, value, mask).transpose(1, 2), None


@contextmanager
def uniform_pictures(model: Any) -> Iterator[None]:
    """While active, `model` may be called only with pictures of one size and padding on the right.

    Its results on tokens that are not padding are the same, to rounding.

    Raises:
        ValueError: if some block of the vision tower attends in windows.
    """
    visual = model.model.visual
    if sorted(visual.fullatt_block_indexes) != list(range(len(visual.blocks))):
        raise ValueError("uniform_pictures needs a vision tower whose blocks all attend over the whole picture")
    from transformers import AttentionInterface

    AttentionInterface.register("causal_products", causal_products)
    text = model.model.language_model.config
    before = text._attn_implementation
    text._attn_implementation = "causal_products"
    for block in visual.blocks:
        block.attn.forward = MethodType(_forward, block.attn)
    try:
        yield
    finally:
        text._attn_implementation = before
        for block in visual.blocks:
            del block.attn.forward


def patchify(pictures: Tensor, patch: int, merge: int = 2, temporal: int = 2) -> Tensor:
    """What Qwen2.5-VL's image processor makes of pictures that need no resizing.

    Args:
        pictures: (N, H, W, 3) uint8; H and W multiples of patch * merge.
        patch: side of a patch in pixels.
        merge: patches a side per token.
        temporal: repeats in time.

    Returns:
        (N * H / patch * W / patch, 3 * temporal * patch * patch) float32, patches of one token together.
    """
    mean = torch.tensor(_MEAN, device=pictures.device)
    std = torch.tensor(_STD, device=pictures.device)
    x = ((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    n, c, height, width = x.shape
    rows, columns = height // patch, width // patch
    x = x.reshape(n, c, rows // merge, merge, patch, columns // merge, merge, patch)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)  # n, row, column, merge, merge, c, patch, patch
    x = x.unsqueeze(6).expand(*x.shape[:6], temporal, patch, patch)
    return x.reshape(n * rows * columns, c * temporal * patch * patch)


def rope_positions(input_ids: npt.NDArray[np.int64], image_token_id: int, side: int) -> npt.NDArray[np.int64]:
    """Multimodal rotary positions of one sequence whose pictures are all of side x side tokens.

    Returns:
        (3, L): time, row, column; a picture advances the text after it by `side`.
    """
    length = len(input_ids)
    out = np.empty((3, length), np.int64)
    next_position, i = 0, 0
    cells = side * side
    grid = np.stack([np.zeros(cells, np.int64), np.arange(cells) // side, np.arange(cells) % side])
    while i < length:
        if input_ids[i] == image_token_id:
            out[:, i : i + cells] = next_position + grid
            next_position += side
            i += cells
        else:
            out[:, i] = next_position
            next_position += 1
            i += 1
    return out


def compile_blocks(model: Any) -> None:
    """Fuse the blocks of a Qwen2.5-VL with torch.compile: one compilation serves all of a tower, at any length."""
    for block in (*model.model.visual.blocks, *model.model.language_model.layers):
        block.compile(dynamic=True)
