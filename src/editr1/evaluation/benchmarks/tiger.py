"""TIGER-Lab/EditReward-Bench, Apache-2.0. Not to be confused with EditScore's of the same name.

1,524 comparisons of two candidates, unfolded from 186 contexts with two candidates, 150 with three and 148 with four.
`candidate_1` and `candidate_2` are the letters of `comparison_type`, e.g. B and D for "BvsD", and `ranking` is "B>D",
"D>B" or "B=D". The id before the first underscore names the context.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from editr1.errors import DataError
from editr1.evaluation.benchmarks.base import Benchmark, Figures, Pair, column, present, text
from editr1.evaluation.benchmarks.pictures import PictureStore
from editr1.evaluation.benchmarks.tables import HubSource, Row
from editr1.evaluation.metrics import Choice, PairResult, exact_match, group_accuracy

_WAYS = {"2pair": "2-way", "3pair": "3-way", "4pair": "4-way"}
_COMPARISONS = {"2-way": 1, "3-way": 3, "4-way": 6}
_RANKING = re.compile(r"\s*([A-D])\s*([>=<])\s*([A-D])\s*")
_TYPE = re.compile(r"\s*([A-D])\s*vs\.?\s*([A-D])\s*")


def read(row: Row, store: PictureStore) -> Pair:
    """A row: `id`, `dataset`, `instruction`, three pictures, `ranking` and `comparison_type`.

    `id` alone, or with `comparison_type`, is unique.
    """
    identity, kind = text(row, "id"), text(row, "comparison_type")
    way = _way(text(row, "dataset"))
    return Pair(
        id=f"{way}/{identity}/{kind}",
        source=store.take(column(row, "source_image"), row.root, "source_image"),
        instruction=text(row, "instruction"),
        first=store.take(column(row, "candidate_1"), row.root, "candidate_1"),
        second=store.take(column(row, "candidate_2"), row.root, "candidate_2"),
        label=_label(text(row, "ranking"), kind),
        task=way,
        group=f"{way}/{identity.split('_')[0]}",
        where=row.where,
    )


def official(results: Sequence[PairResult]) -> Figures:
    """2-way: exact match of better, worse and same. 3- and 4-way: a context is right if all its comparisons are.

    Contexts of which comparisons are missing from the data enter no figure; those of which some failed enter the one
    that counts failures as wrong, which is there if there are any.
    """
    figures = []
    for way, needed in _COMPARISONS.items():
        of = [r for r in results if r.task == way]
        sizes: dict[str, int] = {}
        for r in of:
            sizes[r.group] = sizes.get(r.group, 0) + 1
        whole = [r for r in of if sizes[r.group] == needed]
        if needed == 1:
            figures.append((way, exact_match(of)))
            continue
        groups = group_accuracy(whole)
        figures.append((way, groups.right))
        if groups.failed:
            figures.append((f"{way}, failures as wrong", groups.failures_as_wrong))
        figures.append((f"{way}, single comparisons", exact_match(of)))
    return present(figures)


def _way(dataset: str) -> str:
    for name, way in _WAYS.items():
        if name in dataset.replace("-", "").lower():
            return way
    raise DataError(f"the column dataset holds {dataset!r}, which is none of {', '.join(_WAYS)}")


def _label(ranking: str, kind: str) -> Choice:
    letters, said = _TYPE.fullmatch(kind), _RANKING.fullmatch(ranking)
    if letters is None:
        raise DataError(f"the column comparison_type holds {kind!r}, which is nothing like 'AvsB'")
    if said is None or {said[1], said[3]} != {letters[1], letters[2]}:
        raise DataError(f"the column ranking holds {ranking!r}, which does not rank the two of {kind!r}")
    if said[2] == "=":
        return Choice.SAME
    better = said[1] if said[2] == ">" else said[3]
    return Choice.FIRST if better == letters[1] else Choice.SECOND


BENCHMARK = Benchmark(
    name="tiger",
    title="TIGER-Lab/EditReward-Bench",
    licence="Apache-2.0",
    commercial=True,
    read=read,
    official=official,
    protocol="2-way: exact match of A>B, B>A, A=B; 3- and 4-way: a context is right if all 3 or 6 comparisons are. "
    "Equal scores are a tie; a wider margin is taken from --tie-margin and never fitted to these labels",
    hub=HubSource("TIGER-Lab/EditReward-Bench"),
)
