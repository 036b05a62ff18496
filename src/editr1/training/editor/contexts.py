"""What an editor is trained on: contexts by position, their order, and seeds that depend on nothing else."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from random import Random
from typing import Protocol

from editr1.datasets.contexts import SOURCES
from editr1.datasets.edits import BadRow
from editr1.editors.jobs import read_tasks
from editr1.errors import DataError, ImageError
from editr1.images import load_image
from editr1.rewards.oracle import sticker_task
from editr1.training.editor.recipe import ContextsRecipe
from editr1.types import EditTask

_log = logging.getLogger(__name__)

_TRIES = 20
"""Rows in a row that may be bad: beyond it, something is wrong with the whole data set."""


class Contexts(Protocol):
    """Tasks by position."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> EditTask:
        """The task, its picture decoded.

        Raises:
            DataError, ImageError: if it cannot be had.
        """
        ...


def open_contexts(recipe: ContextsRecipe) -> Contexts:
    """The contexts that a recipe names.

    Raises:
        DataError: if there are none, or fewer than asked for.
    """
    if recipe.stickers is not None:
        return _Stickers(recipe)
    found: Contexts = _Tasks(recipe) if recipe.format == "tasks" else _Rows(recipe)
    if not len(found):
        raise DataError(f"there are no contexts at {recipe.path} from number {recipe.first} on")
    if recipe.count is not None and len(found) < recipe.count:
        raise DataError(
            f"{recipe.count} contexts from number {recipe.first} on are asked for, and {recipe.path} has {len(found)}"
        )
    return found


def usable(contexts: Contexts, position: int) -> EditTask:
    """The task at a position; if it cannot be had, the next one that can, so that a bad row does not end a long run.

    Raises:
        DataError: if many in a row cannot.
    """
    for further in range(min(_TRIES, len(contexts))):
        try:
            return contexts[(position + further) % len(contexts)]
        except (DataError, ImageError) as exc:
            _log.warning("context %d is passed over: %s", position + further, exc)
            last = exc
    raise DataError(f"{min(_TRIES, len(contexts))} contexts from number {position} on cannot be used; the last: {last}")


def chosen(iteration: int, number: int, size: int, seed: int) -> list[int]:
    """Positions of an iteration's contexts: pass after pass over all, each in an order of its own.

    Args:
        iteration: from 0.
        number: of contexts in an iteration.
        size: of the data set.
        seed: of the run.
    """
    places = range(iteration * number, (iteration + 1) * number)
    return [_order(place // size, size, seed)[place % size] for place in places]


def derive_seed(*parts: object) -> int:
    """A seed of 56 bits that is a function of these, such as (run's seed, iteration, slot, sample)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


@lru_cache(maxsize=4)
def _order(epoch: int, size: int, seed: int) -> Sequence[int]:
    order = list(range(size))
    Random(f"contexts/{seed}/{epoch}").shuffle(order)
    return order


class _Stickers:
    """Drawn when asked for."""

    def __init__(self, recipe: ContextsRecipe) -> None:
        assert recipe.count is not None
        self._recipe = recipe
        self._count = recipe.count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> EditTask:
        kinds = self._recipe.kinds
        name = f"{self._recipe.stickers}/{self._recipe.first + position}"
        return sticker_task(name if kinds is None else f"{name}/{kinds[position % len(kinds)].value}").edit_task()


class _Tasks:
    """A JSONL of tasks, read at once: it holds names of pictures, not pictures."""

    def __init__(self, recipe: ContextsRecipe) -> None:
        assert recipe.path is not None
        end = None if recipe.count is None else recipe.first + recipe.count
        rows = list(islice(read_tasks(recipe.path), recipe.first, end))
        for row in rows:
            if isinstance(row, BadRow):
                _log.warning("a context is left out: %s", row)
        self._tasks = [row for row in rows if isinstance(row, EditTask)]

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, position: int) -> EditTask:
        task = self._tasks[position]
        return EditTask(task.id, load_image(task.source), task.instruction, task.principles, task.kind)


class _Rows:
    """Rows of a data set, read when asked for."""

    def __init__(self, recipe: ContextsRecipe) -> None:
        assert recipe.path is not None
        self._source = SOURCES[recipe.format](recipe.path)
        self._first = recipe.first
        there = max(len(self._source) - recipe.first, 0)
        self._count = there if recipe.count is None else min(there, recipe.count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> EditTask:
        (row,) = self._source.rows([self._first + position])
        if isinstance(row, BadRow):
            raise DataError(str(row))
        return EditTask(f"{row.position}-{row.name}", load_image(row.source), row.instruction, None, row.kind)
