"""Keys and values while a batch decodes: one copy of each shared prefix, and a growing part for every row.

Letters of shapes: H key heads, N prefixes, R places per prefix, B rows, P prefix tokens, T own tokens, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

# Own parts grow by at least this many tokens at a time.
CHUNK = 128


@dataclass(slots=True)
class Prefixes:
    """What groups of rows have in common, per block; shorter prefixes are padded on the right.

    Attributes:
        keys: `(H * N, D, P)`; values: `(H * N, P, D)`.
        lengths: per prefix, on the host.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: list[int]

    @property
    def width(self) -> int:
        """P: length of the longest prefix."""
        return max(self.lengths, default=0)

    def take(self, kept: list[int]) -> Prefixes:
        """Only the given prefixes."""
        count, width = len(self.lengths), max(self.lengths[i] for i in kept)
        index = torch.tensor(kept, device=self.keys[0].device)
        keys = [k.unflatten(0, (-1, count))[:, index, :, :width].flatten(0, 1) for k in self.keys]
        values = [v.unflatten(0, (-1, count))[:, index, :width].flatten(0, 1) for v in self.values]
        return Prefixes(keys, values, [self.lengths[i] for i in kept])


@dataclass(slots=True)
class RowCache:
    """What every row has of its own, per block; the first tokens of shorter rows are padding, so all end together.

    Attributes:
        keys: `(H, B, D, capacity)`; values: `(H, B, capacity, D)`.
        pads: per row, how many of its first places are padding, on the host.
        used: T, how many places are filled.
    """

    keys: list[Tensor]
    values: list[Tensor]
    pads: list[int]
    used: int

    @property
    def capacity(self) -> int:
        """How many places there are."""
        return self.values[0].shape[2]

    def reserve(self, tokens: int) -> None:
        """Make room for that many more tokens, and a chunk beyond if the room has to be found."""
        if self.used + tokens <= self.capacity:
            return
        more = max(self.used + tokens - self.capacity, CHUNK, self.capacity // 4)
        for block in range(len(self.keys)):
            keys, values = self.keys[block], self.values[block]
            self.keys[block] = torch.cat([keys, keys.new_empty(*keys.shape[:3], more)], dim=3)
            self.values[block] = torch.cat([values, values.new_empty(*values.shape[:2], more, values.shape[3])], dim=2)

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these."""
        index = torch.tensor(rows, device=self.keys[0].device)
        used, room = self.used, min(self.capacity, self.used + CHUNK)
        for block in range(len(self.keys)):
            self.keys[block] = _moved(self.keys[block], index, 3, used, room)
            self.values[block] = _moved(self.values[block], index, 2, used, room)
        self.pads = [self.pads[row] for row in rows]


def _moved(source: Tensor, rows: Tensor, axis: int, used: int, room: int) -> Tensor:
    """The given rows in a tensor of their own with places for `room` tokens."""
    shape = list(source.shape)
    shape[1], shape[axis] = len(rows), room
    target = source.new_empty(shape)
    target.narrow(axis, 0, used).copy_(source.narrow(axis, 0, used).index_select(1, rows))
    return target


@dataclass(slots=True)
class Places:
    """Which prefix each row continues: rows of one prefix are neighbours, prefixes in order.

    A multiplication of all rows with their prefixes needs equally many rows at each prefix. Where that is so, rows
    are used as they are; else they are spread over `N * R` places.

    Attributes:
        owners: per row, its prefix.
        spread: `(B,)` place of each row, or None where row and place are the same.
        count: N * R.
    """

    owners: list[int]
    prefixes: int
    device: torch.device
    spread: Tensor | None = field(init=False)
    count: int = field(init=False)

    def __post_init__(self) -> None:
        seen = [0] * self.prefixes
        places = []
        for owner in self.owners:
            places.append((owner, seen[owner]))
            seen[owner] += 1
        most = max(seen)
        self.count = most * self.prefixes
        even = self.count == len(self.owners)
        flat = [owner * most + place for owner, place in places]
        self.spread = None if even else torch.tensor(flat, device=self.device)


def pad_mask(places: Places, prefixes: Prefixes | None, rows: RowCache, dtype: torch.dtype) -> Tensor | None:
    """`(1, B, 1, P + capacity)`: -inf at padding, else 0; None if nothing is padded."""
    width = prefixes.width if prefixes else 0
    lengths = prefixes.lengths if prefixes else []
    if not any(rows.pads) and all(length == width for length in lengths):
        return None
    mask = torch.zeros(len(places.owners), width + rows.capacity, dtype=dtype)
    for row, (owner, pad) in enumerate(zip(places.owners, rows.pads)):
        if prefixes:
            mask[row, lengths[owner] : width] = float("-inf")
        mask[row, width : width + pad] = float("-inf")
    return mask.to(places.device)[None, :, None]
