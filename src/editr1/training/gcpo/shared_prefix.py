"""The training forward with what a group shares encoded once: pictures, instruction, principles.

The N rollouts of a half continue one prompt. Row by row, as TRL lays them out, a group costs N (P + C) tokens and 2 N
pictures; here it costs P + N C tokens and 2 pictures. One row holds a group:

    prompt without its last token | last token, rollout 1 | last token, rollout 2 | ...

Each block sees the prompt and itself. The prompt's last token begins every block, because it is where a rollout's first
token is predicted. The numbers are those of the separate rows, up to the order of sums.

Letters: B rows of N rollouts each of G groups, P tokens of the longest prompt, C of the longest rollout,
L = P - 1 + N C places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editr1.judges.fast.layout import rope_positions

_PREFIX = "editr1_shared_"
_IGNORED = -100


def why_not_shared(model: Any) -> str | None:
    """The reason why a model's prompts cannot be shared, in a few words, or None if they can.

    Args:
        model: bare, without adapters or wrappers.
    """
    kind = getattr(model.config, "model_type", None)
    if kind != "qwen2_5_vl":
        return f"its type is {kind}, and only qwen2_5_vl is known"
    text = model.model.language_model.config
    if any(layer != "full_attention" for layer in getattr(text, "layer_types", None) or ()):
        return "its text model attends in windows"
    implementation = str(text._attn_implementation).removeprefix(_PREFIX)
    if implementation not in ("sdpa", "eager"):
        return f"its attention is {implementation}, not sdpa or eager"
    return None


def share_prefixes(model: Any) -> None:
    """Give a bare model's text part an attention that knows blocks; calls without blocks go on as sdpa does."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    name = f"{_PREFIX}sdpa"
    AttentionInterface.register(name, partial(_attention, sdpa_attention_forward))
    AttentionMaskInterface.register(name, sdpa_mask)
    model.model.language_model.config._attn_implementation = name


@dataclass(frozen=True, slots=True)
class SharedBatch:
    """Groups, one a row.

    Attributes:
        input_ids: (G, L).
        position_ids: (3, G, L).
        labels: (G, L), the token that each place predicts, `_IGNORED` where nothing is asked.
        prefix_mask: (G, P - 1), false at padding, which is on the left.
        rows: (G, N), which row of the batch each block is.
        pixel_values, image_grid_thw: of each group's pictures, once.
    """

    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor
    prefix_mask: Tensor
    rows: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None

    def model_inputs(self) -> dict[str, Any]:
        """What the model is called with; the last two arrive at the attention."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": None,
            "pixel_values": self.pixel_values,
            "image_grid_thw": self.image_grid_thw,
            "shared_mask": self.prefix_mask,
            "shared_blocks": self.rows.shape[1],
        }

    def by_row(self, values: Tensor) -> Tensor:
        """(G, L) -> (G N, C): what belongs to the rollouts' tokens; `rows` says which row each is."""
        return values[:, self.prefix_mask.shape[1] :].reshape(self.rows.numel(), -1)


def group_rows(groups: Sequence[int]) -> list[list[int]] | None:
    """The rows of each group, in order of appearance; None if groups are of unequal size."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    found = list(members.values())
    return found if len({len(rows) for rows in found}) == 1 else None


def share(
    rows: Sequence[Sequence[int]],
    input_ids: Tensor,
    attention_mask: Tensor,
    length: int,
    *,
    image_token: int,
    merge: int,
    pad: int,
    pixel_values: Tensor | None = None,
    image_grid_thw: Tensor | None = None,
    num_images: Sequence[int] | None = None,
) -> SharedBatch:
    """Lay groups out.

    Args:
        rows: per group the rows that continue one prompt, equally many.
        input_ids: (B, P + C), prompts padded on the left, rollouts on the right.
        attention_mask: likewise.
        length: C.
        image_token: id of a picture's placeholders.
        merge: side of the square of patches that becomes one token.
        pad: id for padding.
        pixel_values: of all rows' pictures, (patches, values).
        image_grid_thw: likewise, (pictures, 3).
        num_images: pictures of each row.
    """
    device = input_ids.device
    cut = input_ids.shape[1] - length
    prompts = [input_ids[r[0], :cut][attention_mask[r[0], :cut].bool()] for r in rows]
    width = max(len(p) for p in prompts) - 1
    flat = torch.tensor([list(r) for r in rows], device=device)
    answers = input_ids[:, cut:][flat]  # (G, N, C)
    asked = attention_mask[:, cut:][flat].bool()
    last = torch.stack([p[-1] for p in prompts])
    heads = last[:, None, None].expand(*answers.shape[:2], 1)
    blocks = torch.cat([heads, answers[..., :-1]], dim=-1).flatten(1)

    patches, grids = _pictures([r[0] for r in rows], pixel_values, image_grid_thw, num_images)
    ids = torch.full((len(rows), width), pad, dtype=input_ids.dtype, device=device)
    mask = torch.zeros((len(rows), width), dtype=torch.bool, device=device)
    places = torch.zeros((3, len(rows), width + blocks.shape[1]), dtype=torch.long)
    for g, prompt in enumerate(prompts):
        start = width - (len(prompt) - 1)
        ids[g, start:], mask[g, start:] = prompt[:-1], True
        sizes = [] if grids is None else [(int(t), int(h), int(w)) for t, h, w in grids[g].tolist()]
        positions, after = rope_positions((prompt == image_token).cpu().numpy(), sizes, merge)
        places[:, g, start:width] = torch.from_numpy(positions[:, :-1])
        places[:, g, width:] = (after - 1 + torch.arange(length)).repeat(flat.shape[1])
    nothing = torch.full((len(rows), width), _IGNORED, dtype=input_ids.dtype, device=device)
    return SharedBatch(
        input_ids=torch.cat([ids, blocks], dim=1),
        position_ids=places.to(device),
        labels=torch.cat([nothing, answers.masked_fill(~asked, _IGNORED).flatten(1)], dim=1),
        prefix_mask=mask,
        rows=flat,
        pixel_values=patches,
        image_grid_thw=None if grids is None else torch.cat(grids),
    )


def _pictures(
    first: Sequence[int], pixel_values: Tensor | None, grids: Tensor | None, num_images: Sequence[int] | None
) -> tuple[Tensor | None, list[Tensor] | None]:
    """Patches and grids of these rows' pictures."""
    if pixel_values is None or grids is None or num_images is None:
        return None, None
    of_row = torch.split(grids, list(num_images))
    patches = torch.split(pixel_values, [int(g.prod(-1).sum()) for g in of_row])
    return torch.cat([patches[row] for row in first]), [of_row[row] for row in first]


def _attention(
    otherwise: Any,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_blocks: int | None = None,
    shared_mask: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function for transformers: (G, heads, L, D) each -> (G, L, heads, D)."""
    if shared_blocks is None or shared_mask is None:
        result: tuple[Tensor, Tensor | None] = otherwise(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return result
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    repeats = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(repeats, dim=1) for t in (key, value))
    width = shared_mask.shape[1]
    attend = _products if query.device.type == "cpu" else F.scaled_dot_product_attention

    # A place of padding sees itself, so that its row of the softmax is not empty; nothing else sees it.
    diagonal = torch.eye(width, dtype=torch.bool, device=query.device)
    causal = torch.ones_like(diagonal).tril()
    seen = (causal & (shared_mask[:, None, :] | diagonal))[:, None]
    head = attend(query[:, :, :width], key[:, :, :width], value[:, :, :width], attn_mask=seen, scale=scale)

    groups, heads, _, depth = query.shape
    own = [t[:, :, width:].unflatten(2, (shared_blocks, -1)).transpose(1, 2) for t in (query, key, value)]
    length = own[0].shape[3]
    shared = [t[:, None, :, :width].expand(-1, shared_blocks, -1, -1, -1) for t in (key, value)]
    keys, values = (torch.cat([s, o], dim=3).flatten(0, 1) for s, o in zip(shared, own[1:], strict=True))
    before = shared_mask[:, None, None, None, :].expand(-1, shared_blocks, 1, length, -1)
    inside = causal.new_ones(length, length).tril().expand(groups, shared_blocks, 1, -1, -1)
    seen = torch.cat([before, inside], dim=-1).flatten(0, 1)
    blocks = attend(own[0].flatten(0, 1), keys, values, attn_mask=seen, scale=scale)
    blocks = blocks.unflatten(0, (groups, shared_blocks)).transpose(1, 2).reshape(groups, heads, -1, depth)
    return torch.cat([head, blocks], dim=2).transpose(1, 2), None


def _products(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor, scale: float) -> Tensor:
    """Attention as plain products: on CPUs, faster than the fused kernel in training."""
    scores = (query * scale) @ key.transpose(-1, -2)
    return scores.masked_fill(~attn_mask, float("-inf")).softmax(-1) @ value
