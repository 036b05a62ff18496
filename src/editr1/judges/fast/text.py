"""The text model: prefill of prefixes and of what follows them, and the decoding step.

Letters of shapes: H key heads, G query heads per key head, N prefixes, R places per prefix, B rows, S suffix tokens,
P prefix tokens, T own tokens, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editr1.judges.fast.attention import attend, rotate
from editr1.judges.fast.cache import CHUNK, Places, Prefixes, RowCache, pad_mask
from editr1.judges.fast.weights import TextWeights

# Prefill goes through the model in parcels of about this many tokens, so that memory stays bounded.
PREFILL_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Tokens:
    """Pieces of prompts, padded to one length.

    Attributes:
        embeds: `(pieces, length, width)`.
        positions: `(3, pieces, length)`.
        lengths: per piece, without padding.
    """

    embeds: Tensor
    positions: Tensor
    lengths: list[int]


class TextModel:
    """Runs on weights alone; holds no state of a batch."""

    def __init__(self, weights: TextWeights) -> None:
        self.weights = weights
        self._axis = torch.repeat_interleave(
            torch.arange(len(weights.sections)), torch.tensor(weights.sections)
        )  # (D/2,): which axis of a position each rotary dimension follows

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine for `rotate`, `(..., 1, D)`, at positions `(3, ...)`."""
        w = self.weights
        angles = positions[..., None].float() * w.inv_freq.to(positions.device)
        index = self._axis.to(positions.device).expand(1, *angles.shape[1:])
        angle = angles.gather(0, index)[0].unsqueeze(-2)
        cos, sin = angle.cos() * w.rope_scale, angle.sin() * w.rope_scale
        dtype = w.embed.dtype
        return torch.cat([cos, cos], dim=-1).to(dtype), torch.cat([-sin, sin], dim=-1).to(dtype)

    def prefill_prefixes(self, tokens: Tokens) -> Prefixes:
        """Encode prefixes padded on the right; causal attention keeps padding out of what matters."""
        w, (count, width) = self.weights, tokens.embeds.shape[:2]
        kept: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in w.blocks]
        allowed = torch.ones(width, width, dtype=torch.bool, device=tokens.embeds.device).tril_()
        parcel = max(1, PREFILL_TOKENS // width)
        for start in range(0, count, parcel):
            x = tokens.embeds[start : start + parcel]
            rope = self.rope(tokens.positions[:, start : start + parcel])
            for number, block in enumerate(w.blocks):
                q, k, v = self._project(block.qkv(block.norm_in(x)), *rope)
                kept[number][0].append(k)
                kept[number][1].append(v)
                if number == len(w.blocks) - 1:
                    break  # nobody reads what the last block would say at a prefix
                x = x + block.out(attend(q, k, v, allowed).transpose(1, 2).flatten(2))
                x = x + block.mlp(x)
        keys = [torch.cat(k).permute(1, 0, 3, 2).reshape(-1, w.head_dim, width) for k, _ in kept]
        values = [torch.cat(v).transpose(0, 1).reshape(-1, width, w.head_dim) for _, v in kept]
        return Prefixes(keys, values, tokens.lengths)

    def prefill_rows(
        self, tokens: Tokens, prefixes: Prefixes | None, owners: list[int], room: int
    ) -> tuple[RowCache, Tensor]:
        """Encode what follows the prefixes, padded on the left.

        Args:
            tokens: one piece per row, none empty.
            prefixes: what the rows continue, or None.
            owners: per row, its prefix.
            room: places to reserve for decoding; more are found when needed.

        Returns:
            The rows' cache, and the last hidden states `(B, width)`.
        """
        w, (count, length) = self.weights, tokens.embeds.shape[:2]
        embeds = tokens.embeds
        capacity = length + min(room, CHUNK)
        cache = RowCache(
            keys=[embeds.new_empty(w.kv_heads, count, w.head_dim, capacity) for _ in w.blocks],
            values=[embeds.new_empty(w.kv_heads, count, capacity, w.head_dim) for _ in w.blocks],
            pads=[length - n for n in tokens.lengths],
            used=length,
        )
        last = []
        parcel = max(1, PREFILL_TOKENS // length)
        for start in range(0, count, parcel):
            rows = slice(start, start + parcel)
            allowed = _suffix_mask(cache.pads[rows], length, prefixes, owners[rows], embeds.device)
            index = torch.tensor(owners[rows], device=embeds.device)
            x = embeds[rows]
            rope = self.rope(tokens.positions[:, rows])
            for number, block in enumerate(w.blocks):
                q, k, v = self._project(block.qkv(block.norm_in(x)), *rope)
                cache.keys[number][:, rows, :, :length] = k.permute(1, 0, 3, 2)
                cache.values[number][:, rows, :length] = v.transpose(0, 1)
                if prefixes:
                    shape = (w.kv_heads, len(prefixes.lengths))
                    before_k = prefixes.keys[number].unflatten(0, shape)[:, index].permute(1, 0, 3, 2)
                    before_v = prefixes.values[number].unflatten(0, shape)[:, index].transpose(0, 1)
                    k, v = torch.cat([before_k, k], dim=2), torch.cat([before_v, v], dim=2)
                if number == len(w.blocks) - 1:  # only the last token's answer is asked for
                    q, x, allowed = q[:, :, -1:], x[:, -1:], allowed[..., -1:, :]
                x = x + block.out(attend(q, k, v, allowed).transpose(1, 2).flatten(2))
                x = x + block.mlp(x)
            last.append(x[:, -1])
        return cache, torch.cat(last)

    def logits(self, hidden: Tensor) -> Tensor:
        """`(B, width)` -> `(B, vocabulary)`."""
        return self.weights.head(self.weights.norm(hidden))

    def _project(self, qkv: Tensor, cos: Tensor, signed_sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, S, (heads + 2 H) * D)` -> rotated queries and keys, and values, each `(B, its heads, S, D)`."""
        w = self.weights
        heads = qkv.unflatten(-1, (-1, w.head_dim))
        turned = rotate(heads[..., : w.heads + w.kv_heads, :], cos, signed_sin).transpose(1, 2)
        return turned[:, : w.heads], turned[:, w.heads :], heads[..., w.heads + w.kv_heads :, :].transpose(1, 2)


def _suffix_mask(
    pads: list[int], length: int, prefixes: Prefixes | None, owners: list[int], device: torch.device
) -> Tensor:
    """`(B or 1, 1, S, P + S)`: every prefix token, and every own token so far; padding sees itself alone, and no one
    else sees it.
    """
    allowed = torch.ones(length, length, dtype=torch.bool, device=device).tril_()[None, None]
    if any(pads):
        real = torch.arange(length, device=device) >= torch.tensor(pads, device=device)[:, None]
        allowed = (allowed & real[:, None, None]) | torch.eye(length, dtype=torch.bool, device=device)
    if prefixes is None:
        return allowed
    lengths = torch.tensor([prefixes.lengths[owner] for owner in owners], device=device)
    before = torch.arange(prefixes.width, device=device) < lengths[:, None]
    if bool(before.all()):
        before = before[:1]
    batch = max(allowed.shape[0], before.shape[0])
    return torch.cat(
        [
            before[:, None, None].expand(batch, 1, length, -1),
            allowed.expand(batch, -1, -1, -1),
        ],
        dim=-1,
    )


class Decoder:
    """Decodes a batch of rows one token at a time; finished rows can be dropped on the way."""

    def __init__(self, model: TextModel, prefixes: Prefixes | None, owners: list[int], cache: RowCache) -> None:
        self.model, self.prefixes, self.cache = model, prefixes, cache
        device = cache.keys[0].device
        self.places = Places(owners, len(prefixes.lengths) if prefixes else 1, device)
        self._renew()

    def _renew(self) -> None:
        self._mask = pad_mask(self.places, self.prefixes, self.cache, self.cache.keys[0].dtype)

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these, and the prefixes that no row continues any more."""
        owners = [self.places.owners[row] for row in rows]
        if self.prefixes:
            left = sorted(set(owners))
            if not any(self.prefixes.lengths[owner] for owner in left):
                self.prefixes, owners = None, [0] * len(rows)  # only rows that share nothing are left
            elif len(left) < len(self.prefixes.lengths):
                self.prefixes = self.prefixes.take(left)
                owners = [left.index(owner) for owner in owners]
        self.cache.keep(rows)
        self.places = Places(owners, len(self.prefixes.lengths) if self.prefixes else 1, self.places.device)
        self._renew()

    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Append one token to every row and give the logits of the next.

        Args:
            tokens: `(B,)`.
            positions: `(B,)`, the same on all three axes.

        Returns:
            `(B, vocabulary)`.
        """
        cache, w = self.cache, self.model.weights
        capacity = cache.capacity
        cache.reserve(1)
        if cache.capacity != capacity:
            self._renew()
        cos, signed_sin = self.model.rope(positions.expand(3, -1))
        at = cache.used
        cache.used += 1
        width = self.prefixes.width if self.prefixes else 0
        mask = None if self._mask is None else self._mask[..., : width + cache.used]
        both = w.heads + w.kv_heads
        x = F.embedding(tokens, w.embed)
        for number, block in enumerate(w.blocks):
            heads = block.qkv(block.norm_in(x)).unflatten(-1, (-1, w.head_dim))
            turned = rotate(heads[:, :both], cos, signed_sin)
            cache.keys[number][..., at] = turned[:, w.heads :].transpose(0, 1)
            cache.values[number][:, :, at] = heads[:, both:].transpose(0, 1)
            x = x + block.out(self._attend(turned[:, : w.heads], number, mask))
            x = x + block.mlp(x)
        return self.model.logits(x)

    def _attend(self, q: Tensor, number: int, mask: Tensor | None) -> Tensor:
        """One query per row, `(B, heads, D)` -> `(B, heads * D)`.

        A prefix's keys meet the queries of all its rows in one multiplication; each row's own keys meet its queries
        alone. One softmax runs over both.
        """
        w, used = self.model.weights, self.cache.used
        batch, kv_heads, dim = q.shape[0], w.kv_heads, w.head_dim
        q = q.view(batch, kv_heads, -1, dim).transpose(0, 1)
        queries = torch.empty(q.shape, dtype=q.dtype, device=q.device)  # (H, B, G, D), contiguous
        torch.mul(q, dim**-0.5, out=queries)
        own_keys = self.cache.keys[number][..., :used].flatten(0, 1)
        own_values = self.cache.values[number][:, :, :used].flatten(0, 1)
        scores = torch.bmm(queries.flatten(0, 1), own_keys).view(kv_heads, batch, -1, used)
        if self.prefixes:
            scores = torch.cat([self._meet_prefixes(queries, self.prefixes.keys[number]), scores], dim=-1)
        if mask is not None:
            scores += mask
        weights = scores.softmax(-1)
        if self.prefixes is None:
            mixed = torch.bmm(weights.flatten(0, 1), own_values)
        else:
            width = self.prefixes.width
            shared = self._meet_prefixes(weights[..., :width], self.prefixes.values[number])
            mixed = torch.baddbmm(shared.flatten(0, 1), weights[..., width:].flatten(0, 1), own_values)
        return mixed.view(kv_heads, batch, -1).transpose(0, 1).reshape(batch, -1)

    def _meet_prefixes(self, rows: Tensor, matrices: Tensor) -> Tensor:
        """Multiply each row's `(H, B, G, a)` with its prefix's matrix, `(H * N, a, b)` -> `(H, B, G, b)`."""
        places, (kv_heads, _, group, inner) = self.places, rows.shape
        spread = rows
        if places.spread is not None:
            spread = rows.new_zeros(kv_heads, places.count, group, inner)
            spread[:, places.spread] = rows
        product = torch.bmm(spread.reshape(matrices.shape[0], -1, inner), matrices)
        product = product.view(kv_heads, places.count, group, -1)
        return product if places.spread is None else product[:, places.spread]
