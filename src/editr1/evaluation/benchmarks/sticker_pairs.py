"""Pairs of sticker edits, drawn and not read. Glyphs and backdrops are openly licensed: see the assets' LICENSES.md.

What stands behind `--data` is a draw, "<split>[:<number>[:<annotator>]]":

oracle   the label is which edit the oracle finds worth more, by half a point of ten or more
ann, bo  simulated people say which they prefer, or that they see no difference; pairs may be close. They are
         simulations, and no human data

The two edits stand in a random order. Task is the kind of edit, the principles are those of the context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from editr1.datasets.edits import parse_principles
from editr1.evaluation.benchmarks.base import Benchmark, Figures, Pair, choice, column, present, text
from editr1.evaluation.benchmarks.pictures import PictureStore
from editr1.evaluation.benchmarks.sticker_draws import Draw, png
from editr1.evaluation.benchmarks.tables import Row, Table
from editr1.evaluation.metrics import Choice, PairResult, accuracy
from editr1.evaluation.stickers import sample_pair
from editr1.stickers.annotators import HUMANS
from editr1.types import EditKind

ORACLE = "oracle"
NUMBER = 1000
_SAID = {1: Choice.FIRST, -1: Choice.SECOND, 0: Choice.SAME}
_CHOICES = {c.value: c for c in Choice}


def rows(data: str) -> tuple[Table, Iterator[Row]]:
    """The rows of a draw, made as they are asked for.

    Raises:
        DataError: if `data` is no draw.
    """
    drawn = Draw.parse(data, NUMBER, (ORACLE, *HUMANS))
    name = f"{drawn.split}:{drawn.number}:{drawn.annotator or ORACLE}"
    made = (
        Row(f"{drawn.split}/{i}", Path(), pair_row(drawn.split, i, drawn.annotator or ORACLE))
        for i in range(drawn.number)
    )
    return Table(name, None), made


def pair_row(split: str, index: int, annotator: str = ORACLE) -> dict[str, Any]:
    """A pair as a row: `id`, `source`, `first`, `second` (PNG), `instruction`, `preferred`, `kind`, `principles`."""
    better, worse = sample_pair(split, index) if annotator == ORACLE else sample_pair(split, index, margin=0.0)
    turned = Random(f"sticker-order/{split}/{index}").random() < 0.5
    first, second = (worse, better) if turned else (better, worse)
    task = better.task
    if annotator == ORACLE:
        label = Choice.SECOND if turned else Choice.FIRST
    else:
        label = _SAID[HUMANS[annotator].prefers(first, second)]
    return {
        "id": f"{task.id}/{annotator}",
        "source": png(task.before),
        "first": png(first.scene),
        "second": png(second.scene),
        "instruction": task.instruction,
        "preferred": label.value,
        "kind": task.kind.value,
        "principles": [p.to_dict() for p in task.principles],
    }


def read(row: Row, store: PictureStore) -> Pair:
    """A row as `pair_row` makes it."""
    source, first, second = (store.take(column(row, name), row.root, name) for name in ("source", "first", "second"))
    return Pair(
        id=text(row, "id"),
        source=source,
        instruction=text(row, "instruction"),
        first=first,
        second=second,
        label=choice(row, "preferred", _CHOICES),
        task=text(row, "kind"),
        principles=parse_principles(column(row, "principles")),
        where=row.where,
    )


def official(results: Sequence[PairResult]) -> Figures:
    """Strict accuracy over pairs with a preference, and its mean over the 11 kinds of edit."""
    found = accuracy(results)
    figures = (("accuracy", found.strict), ("mean over kinds", found.macro_strict)) if found else ()
    return present(figures)


BENCHMARK = Benchmark(
    name="stickers",
    title="sticker pairs",
    licence="openly licensed",
    commercial=True,
    read=read,
    official=official,
    protocol="strict accuracy, a tie is wrong; pairs marked 'same' are left out; beside it the mean over 11 kinds",
    tasks=len(EditKind),
    rows=rows,
)
