"""Rotary positions and attention over whole sequences, for both towers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Up to this many attention weights (32 MB in float32) on the CPU, three plain operators beat the fused one there.
_PLAIN_UP_TO = 2**23


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Turn queries or keys by their positions.

    Args:
        x: `(..., heads, dim)`.
        cos: broadcasts against `x`.
        signed_sin: the sine, its first half negated, so that swapping the halves of `x` is all that is left to do.
    """
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    return torch.addcmul(x * cos, swapped, signed_sin)


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Attention over whole sequences.

    Args:
        q: `(batch, heads, queries, dim)`.
        k: `(batch, kv_heads, keys, dim)`, kv_heads dividing heads.
        v: like `k`.
        allowed: boolean, broadcasts to `(batch, 1, queries, keys)`; every query must be allowed a key. None: all.

    Returns:
        `(batch, heads, queries, dim)`.
    """
    batch, heads, queries, dim = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    if q.device.type != "cpu" or batch * heads * queries * keys > _PLAIN_UP_TO:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, enable_gqa=heads != kv_heads)
    # Query heads that share a key head are stacked, so that keys and values need not be repeated.
    stacked = q.reshape(batch, kv_heads, -1, dim) * dim**-0.5
    weights = (stacked @ k.transpose(2, 3)).view(batch, heads, queries, keys)
    if allowed is not None:
        weights.masked_fill_(~allowed, float("-inf"))
    mixed = weights.softmax(-1).view(batch, kv_heads, -1, keys) @ v
    return mixed.view(batch, heads, queries, dim)
