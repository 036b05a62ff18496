"""Simulated preference pairs on stickers. They are simulations, are named so, and never pass as human data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from editr1.datasets.integrity import picture_bytes
from editr1.datasets.preference_import import Imported, write_preferences
from editr1.datasets.preferences import SIMULATED
from editr1.stickers import People
from editr1.stickers.annotators import PEOPLE
from editr1.stickers.draw import draw
from editr1.stickers.faults import EDITORS, StickerEdit
from editr1.stickers.oracle import utility
from editr1.stickers.tasks import sample_task
from editr1.types import EditTask, PreferencePair


def sticker_pair(split: str, index: int, people: People = "plain") -> PreferencePair:
    """Two different edits of one context, and what a simulated human says of them; a function of its arguments.

    The edits are draws from the pool of faulty editors, the human is one of the group `people` of `PEOPLE`: utility
    plus noise, and "same" where the two seem alike.
    """
    task = sample_task(split, index)
    rng = Random(f"sticker-preference/{split}/{index}")
    first, second = _two_edits(split, index, rng)
    human = rng.choice(PEOPLE[people])
    opinion = human.prefers(first, second)
    preferred, other = (second, first) if opinion < 0 else (first, second)
    return PreferencePair(
        task=EditTask(task.id, picture_bytes(draw(task.before)), task.instruction, task.principles, task.kind),
        preferred=picture_bytes(preferred.picture()),
        other=picture_bytes(other.picture()),
        same=opinion == 0,
        annotator=f"{SIMULATED}{human.name}",
    )


CLOSE = 0.5
"""Share of pairs whose second edit is the one nearest in utility of several: with it, about 15 % are "same"."""


def _two_edits(split: str, index: int, rng: Random) -> tuple[StickerEdit, StickerEdit]:
    """Two edits of one context that differ, in random order."""
    task = sample_task(split, index)

    def edit(seed: int) -> StickerEdit:
        return EDITORS[rng.choice(list(EDITORS))].edit(task, seed=seed)

    first, candidates = edit(1), list[StickerEdit]()
    wanted = 4 if rng.random() < CLOSE else 1
    for seed in range(2, 1000):
        candidate = edit(seed)
        if candidate.scene != first.scene:
            candidates.append(candidate)
        if len(candidates) == wanted:
            worth = utility(task, first.scene)
            second = min(candidates, key=lambda c: abs(utility(task, c.scene) - worth))
            return (first, second) if rng.random() < 0.5 else (second, first)
    raise RuntimeError(f"no two edits of {task.id} differ")


def sticker_pairs(split: str, number: int, people: People = "plain") -> Iterator[PreferencePair]:
    """The first so many pairs of a split."""
    return (sticker_pair(split, index, people) for index in range(number))


Draw = Callable[[str, int, People], Iterable[PreferencePair]]
"""(split, number, people) -> the first so many pairs."""


def write_sticker_preferences(
    folder: Path,
    sizes: dict[str, tuple[str, int]],
    people: People = "plain",
    *,
    pairs: Draw = sticker_pairs,
    made_by: str = "faulty editors that are drawn",
) -> dict[str, Imported]:
    """Write simulated pairs as a folder of preferences.

    Args:
        folder: to write into.
        sizes: for "train" and "heldout", the name of the draw and how many pairs; sources of unlike draws differ.
        people: who compares, a key of `PEOPLE`.
        pairs: draws them; it is called twice for each split.
        made_by: for the manifest, whose edits they are.
    """
    return {
        name: write_preferences(
            partial(pairs, source, number, people),
            folder,
            split=name,
            origin=f"pairs on stickers, draw {source!r}, edits of {made_by}, compared by simulated people, {people}",
        )
        for name, (source, number) in sizes.items()
    }
