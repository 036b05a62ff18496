"""The vision tower: all pictures in one pass, pictures and windows of equal size as one batch.

transformers runs the attention of each window of each picture by itself, in a loop; at 24 pictures of 4 windows that
is most of the tower's time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from editr1.judges.fast.attention import attend, rotate
from editr1.judges.fast.layout import Grid, WindowLayout, window_layout
from editr1.judges.fast.weights import VisionWeights

# Pictures go through the tower in parcels of about this many patches, so that memory stays bounded.
MAX_PATCHES = 32_768


def encode_pictures(weights: VisionWeights, patches: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    """Encode pictures, whatever their sizes.

    Args:
        weights: of the tower.
        patches: per picture `(frames * rows * columns, values)`, as the picture processor lists them.
        grids: per picture.

    Returns:
        Per picture `(tokens, width of the text model)`.
    """
    by_grid: dict[Grid, list[int]] = {}
    for index, grid in enumerate(grids):
        by_grid.setdefault(grid, []).append(index)
    features: list[Tensor | None] = [None] * len(grids)
    for grid, members in by_grid.items():
        parcel = max(1, MAX_PATCHES // (grid[0] * grid[1] * grid[2]))
        for start in range(0, len(members), parcel):
            chosen = members[start : start + parcel]
            encoded = _encode_alike(weights, torch.stack([patches[i] for i in chosen]), grid)
            for index, feature in zip(chosen, encoded):
                features[index] = feature
    return [f for f in features if f is not None]


def _encode_alike(weights: VisionWeights, patches: Tensor, grid: Grid) -> Tensor:
    """Pictures of one size, `(pictures, patches, values)` -> `(pictures, tokens, width of the text model)`."""
    layout = window_layout(grid, weights.merge, weights.window)
    device, unit = patches.device, weights.merge**2
    order = torch.from_numpy(layout.order).to(device)
    x = F.linear(patches.to(weights.patch.dtype), weights.patch)
    x = x.unflatten(1, (-1, unit))[:, order].flatten(1, 2)

    angles = torch.from_numpy(layout.rows_columns).to(device)[..., None].float() * weights.inv_freq.to(device)
    angle = torch.cat([angles[0], angles[1]], dim=-1)
    cos = torch.cat([angle.cos(), angle.cos()], dim=-1)[:, None]
    signed_sin = torch.cat([-angle.sin(), angle.sin()], dim=-1)[:, None]
    for number, block in enumerate(weights.blocks):
        qkv = block.qkv(block.norm_in(x)).unflatten(-1, (3, weights.heads, -1))
        # Rotated in float32 whatever the weights are, as the model does.
        q, k = (rotate(qkv[:, :, i].float(), cos, signed_sin).to(x.dtype) for i in (0, 1))
        mixed = _mix(q, k, qkv[:, :, 2], layout, full=number in weights.full)
        x = x + block.out(mixed)
        x = x + block.mlp(x)

    tokens = weights.merge_out(F.gelu(weights.merge_in(weights.norm(x).unflatten(1, (-1, unit)).flatten(2))))
    return tokens[:, torch.argsort(order)]


def _mix(q: Tensor, k: Tensor, v: Tensor, layout: WindowLayout, *, full: bool) -> Tensor:
    """Attention in each picture or window; `(pictures, patches, heads, dim)` -> `(pictures, patches, width)`."""
    pictures = q.shape[0]
    runs = ((0, 1, q.shape[1]),) if full else layout.runs
    mixed = []
    for first, count, size in runs:
        cut = [
            t[:, first : first + count * size].reshape(pictures * count, size, *t.shape[2:]).transpose(1, 2)
            for t in (q, k, v)
        ]
        mixed.append(attend(*cut).transpose(1, 2).reshape(pictures, count * size, -1))
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=1)
