"""What an editor works from: a context, encoded once, and batches of contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from editr1.editors.latents import Grid


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes that decide which contexts can share a batch: those of equal geometry can.

    Attributes:
        height, width: of the edited picture, in pixels.
        grid: its tokens, down and across.
        references: the same of each reference picture that the transformer sees.
        channels: numbers in a token.
    """

    height: int
    width: int
    grid: Grid
    references: tuple[Grid, ...]
    channels: int

    @property
    def tokens(self) -> int:
        """Tokens of the edited picture: L in the shapes of this package."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """A task as the transformer sees it. It holds no gradient and can lie on any device.

    Attributes:
        id: of the task.
        geometry: of its pictures.
        tensors: by name, each without a batch dimension: "prompt" (T, D), "reference" (R, C), and what else the
            editor needs, such as "pooled" (P,) and the same for the negative prompt.
    """

    id: str
    geometry: Geometry
    tensors: Mapping[str, Tensor]

    def to(self, device: torch.device | str) -> Context:
        """The same on another device."""
        return replace(self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()})

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Contexts of one geometry, side by side.

    Attributes:
        geometry: of all of them.
        size: their number, B.
        tensors: by name, (B, ...). Texts of different lengths are padded with zeros behind their end, and
            "<name>_mask" (B, T) is then True at their tokens; without padding there is no mask.
    """

    geometry: Geometry
    size: int
    tensors: Mapping[str, Tensor]


def collate(contexts: Sequence[Context], device: torch.device | str) -> Batch:
    """Put contexts of one geometry into a batch.

    A group has one context many times over: it is then stored once and seen B times.

    Raises:
        ValueError: if there are none, or their geometries differ.
    """
    if not contexts:
        raise ValueError("a batch of no contexts: give at least one")
    first = contexts[0]
    others = {c.geometry for c in contexts} - {first.geometry}
    if others:
        raise ValueError(
            f"contexts of different sizes cannot share a batch ({first.geometry.width}x{first.geometry.height} and "
            f"{', '.join(f'{g.width}x{g.height}' for g in others)}, or other references): group them by geometry"
        )
    tensors: dict[str, Tensor] = {}
    for name, value in first.tensors.items():
        if all(c is first for c in contexts):
            tensors[name] = value.to(device).expand(len(contexts), *value.shape)
        else:
            tensors |= _padded(name, [c.tensors[name].to(device) for c in contexts])
    return Batch(first.geometry, len(contexts), tensors)


def _padded(name: str, values: Sequence[Tensor]) -> dict[str, Tensor]:
    lengths = [len(value) for value in values]
    longest = max(lengths)
    if min(lengths) == longest:
        return {name: torch.stack(list(values))}
    rows = [F.pad(value, (*[0, 0] * (value.ndim - 1), 0, longest - len(value))) for value in values]
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    return {name: torch.stack(rows), f"{name}_mask": mask.to(values[0].device)}
