"""What an embedded editor learns from: right and faulty sticker edits, drawn in workers, the same in every run.

Everything is a function of the recipe and an index, so that an interrupted run goes on with what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from random import Random
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset

from editr1.editors.sticker_pipeline import SIDE
from editr1.stickers.draw import pixels
from editr1.stickers.faults import FAULTS, RIGHT, Editor, StickerEdit
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.training.pretrain.recipe import EditsRecipe
from editr1.types import EditKind

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CELL = 16
"""Pixels along a side of a token."""

MODES = (RIGHT, *FAULTS)
"""What an edit in the data can be; shards hold the index."""

_VISIBLE = 8.0
"""Levels of 255 by which some pixel of a token has to change for the token to be called changed."""


class EditMixture:
    """Tasks and edits of a recipe, by number.

    Args:
        recipe: which edits, how often.
        split: another one than the recipe's, e.g. for held-out edits.
    """

    def __init__(self, recipe: EditsRecipe, split: str | None = None) -> None:
        self.recipe = recipe
        self.split = split or recipe.split
        weights = dict.fromkeys(FAULTS, 0.0) | recipe.faults
        self._editor = Editor("pretraining", recipe.right, 0.0, weights)
        self._kinds = [(kind, recipe.kinds.get(kind, 1.0)) for kind in EditKind]

    def task(self, index: int) -> StickerTask:
        """Task number `index`; its kind is drawn by the recipe's weights."""
        kinds, weights = zip(*self._kinds, strict=True)
        kind = Random(f"pretraining/{self.split}/{index}").choices(kinds, weights)[0]
        return sample_task(self.split, index, kind)

    def edits(self, task: StickerTask) -> list[StickerEdit]:
        """The edits of a task: right ones at the recipe's share, each other with one fault."""
        return [self._editor.edit(task, seed) for seed in range(self.recipe.per_task)]


@dataclass(slots=True)
class TaskChunk:
    """Tasks and their edits, N tasks of K edits each.

    Attributes:
        instructions: N texts.
        sources: (N, SIDE, SIDE, 3) uint8.
        edited: (N * K, SIDE, SIDE, 3) uint8, the edits of a task side by side.
        changed: (N, tokens) bool, where a right edit differs from the source.
        modes: (N * K,) uint8, indices into MODES.
    """

    instructions: list[str]
    sources: Pixels
    edited: Pixels
    changed: Mask
    modes: npt.NDArray[np.uint8]


class TaskChunks(Dataset[TaskChunk]):
    """Item i is a file's worth of tasks.

    Args:
        mixture: of edits.
        size: tasks in an item; the last may have fewer.
    """

    def __init__(self, mixture: EditMixture, size: int) -> None:
        self.mixture, self.size = mixture, size

    def __len__(self) -> int:
        return -(-self.mixture.recipe.tasks // self.size)

    def __getitem__(self, index: int) -> TaskChunk:
        last = min((index + 1) * self.size, self.mixture.recipe.tasks)
        tasks = [self.mixture.task(number) for number in range(index * self.size, last)]
        edits = [edit for task in tasks for edit in self.mixture.edits(task)]
        sources = np.stack([pixels(task.before) for task in tasks])
        return TaskChunk(
            instructions=[task.instruction for task in tasks],
            sources=sources,
            edited=np.stack([pixels(edit.scene) for edit in edits]),
            changed=np.stack([changed_tokens(s, pixels(t.after)) for s, t in zip(sources, tasks, strict=True)]),
            modes=np.array([MODES.index(edit.faults[0] if edit.faults else RIGHT) for edit in edits], np.uint8),
        )


class PictureBatches(Dataset[Pixels]):
    """Item i is a batch of pictures, (B, SIDE, SIDE, 3) uint8: sources and edits in turn, of one task after another."""

    def __init__(self, mixture: EditMixture, batch_size: int, steps: int) -> None:
        self.mixture, self.batch_size, self.steps = mixture, batch_size, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Pixels:
        return np.stack([self.picture(index * self.batch_size + i) for i in range(self.batch_size)])

    def picture(self, number: int) -> Pixels:
        """Of task `number // 2` the source, then the first of its edits."""
        task = self.mixture.task(number // 2)
        return pixels(task.before if number % 2 == 0 else self.mixture.edits(task)[0].scene)


def changed_tokens(source: Pixels, right: Pixels) -> Mask:
    """(tokens,) bool, row by row: where two pictures, (SIDE, SIDE, 3) each, visibly differ."""
    differs = np.abs(source.astype(np.float32) - right).mean(axis=2) > _VISIBLE
    across = SIDE // CELL
    return np.asarray(differs.reshape(across, CELL, across, CELL).any(axis=(1, 3)).reshape(-1))


def draw(data: Dataset[Any], first: int, workers: int) -> Iterator[Any]:
    """The items from number `first` on, in order, drawn ahead by worker processes."""
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(first, len(cast(Sized, data))),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        collate_fn=_unchanged,
    )
    return iter(loader)


def _unchanged(item: Any) -> Any:
    return item
