"""Two runs on the items that both have: differences item by item, with bootstrap intervals and exact sign tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from editr1.evaluation.bootstrap import DIFFERENCE, Estimate
from editr1.evaluation.metrics import (
    Choice,
    JudgesCompared,
    PairResult,
    compare_judges,
    contexts_of,
    macro_mean,
    mean,
    sign_test,
)
from editr1.evaluation.reward_models import read_pair
from editr1.evaluation.runs import disagreements, read_result, read_rows

MUST_AGREE = ("benchmark", "data", "image_sizes", "tie_margin")
"""Two judges may be compared where these of their manifests agree."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Paired:
    """One run less another, over the items that both answered; without any, there is no difference.

    Attributes:
        second: index of the run that the first run is taken from.
        items: how many.
        unmatched: items that only one run has; `unanswered`: those that both have and one failed on.
        differences: by figure.
        categories: of the main figure, by category.
        better, worse: items on which the other run is ahead, and behind; ties are left out.
        p_value: exact sign test of these two numbers, two-sided; for judges over contexts (`JudgesCompared`).
    """

    second: int
    items: int
    unmatched: int
    unanswered: int
    differences: Mapping[str, Estimate]
    categories: Mapping[str, Estimate]
    better: int
    worse: int
    p_value: float


def pair_judges(first: Rows, second: Rows, number: int, seed: int = 0) -> Paired:
    """Two judges on one dimension's pairs in which people had a preference.

    Args:
        first: rows of the baseline.
        second: rows of the other run.
        number: index of the other run.
        seed: of the bootstrap.
    """
    ours, theirs = (_results(rows) for rows in (first, second))
    shared = [key for key in ours if key in theirs]
    answered = [key for key in shared if ours[key].choice is not None and theirs[key].choice is not None]
    found = _counted(number, len(ours) + len(theirs), len(shared), len(answered))
    compared = compare_judges(ours.values(), theirs.values(), seed)
    if compared is None:
        return found
    gains = [float(credit(theirs[k]) == 1) - float(credit(ours[k]) == 1) for k in answered]
    tasks, contexts = [ours[key].task for key in answered], contexts_of(ours[key] for key in answered)
    differences = {
        "strict, a tie is wrong": compared.difference,
        "half credit for a tie": compared.half_credit_difference,
    }
    if len(set(tasks)) > 1:
        differences["strict, mean over tasks"] = macro_mean(gains, tasks, seed, contexts, DIFFERENCE)
    return replace(
        found,
        differences=differences,
        categories=_by_category(gains, tasks, seed, contexts, DIFFERENCE),
        better=compared.only_second,
        worse=compared.only_first,
        p_value=compared.p_value,
    )


def compare_runs(first: str, second: str, seed: int = 0) -> tuple[dict[str, JudgesCompared], list[str]]:
    """Compare the judges of two finished runs on the pairs they share, and say where their manifests disagree.

    Returns:
        Dimension -> what came of it, where they share answered pairs; warnings. An overall preference and one on
        consistency of the same two pictures are two questions, and no two trials of one.

    Raises:
        DataError: if one of them is no finished evaluation of pairs.
    """
    manifests = [read_result(path)["manifest"] for path in (first, second)]
    ours, theirs = (read_rows(path) for path in (first, second))
    found = {}
    for name in dict.fromkeys(row["dimension"] for row in (*ours, *theirs)):
        results = [_results([row for row in rows if row["dimension"] == name]).values() for rows in (ours, theirs)]
        if (compared := compare_judges(results[0], results[1], seed)) is not None:
            found[name] = compared
    return found, disagreements(manifests[0], manifests[1], MUST_AGREE)


def pair_editors(
    first: Rows, second: Rows, number: int, seed: int = 0, bounds: tuple[float, float] | None = None
) -> Paired:
    """Two editors on the tasks of one subset.

    Differences are means over categories, like the benchmarks' figures, each over the tasks that have the figure; a
    figure that the two runs have on different tasks is left out. The last one is the main one, and all tasks have it.

    Args:
        first: rows of the baseline.
        second: rows of the other run.
        number: index of the other run.
        seed: of the bootstrap.
        bounds: least and greatest value of a figure.
    """
    widest = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    ours, theirs = ({editor_key(row): row for row in rows} for rows in (first, second))
    shared = [key for key in ours if key in theirs]
    answered = [key for key in shared if ours[key]["scores"] and theirs[key]["scores"]]
    found = _counted(number, len(ours) + len(theirs), len(shared), len(answered))
    if not answered:
        return found
    gains: dict[str, dict[str, float]] = {}  # figure -> key -> difference
    for name in dict.fromkeys(name for key in answered for name in ours[key]["scores"]):
        having = [[key for key in answered if name in of[key]["scores"]] for of in (ours, theirs)]
        if having[0] == having[1]:
            gains[name] = {k: theirs[k]["scores"][name] - ours[k]["scores"][name] for k in having[0]}
    whole = [name for name in gains if len(gains[name]) == len(answered)]
    if whole:
        gains[whole[-1]] = gains.pop(whole[-1])  # the main one stands last
    kinds = {key: ours[key]["category"] for key in answered}
    main = list(gains[whole[-1]].values()) if whole else []
    better, worse = sum(gain > 0 for gain in main), sum(gain < 0 for gain in main)
    return replace(
        found,
        differences={
            name: macro_mean(list(of.values()), [kinds[key] for key in of], seed, bounds=widest)
            for name, of in gains.items()
        },
        categories=_by_category(main, [kinds[key] for key in answered], seed, bounds=widest) if main else {},
        better=better,
        worse=worse,
        p_value=sign_test(better, worse),
    )


def main_figure(scores: Mapping[str, float]) -> float | None:
    """The last figure, which benchmarks make of the others; None without a score."""
    return list(scores.values())[-1] if scores else None


def _counted(number: int, both: int, shared: int, answered: int) -> Paired:
    """The numbers of items alone; `both` is the sum of what the two runs have."""
    return Paired(number, answered, both - 2 * shared, shared - answered, {}, {}, 0, 0, 1.0)


def judge_key(row: Mapping[str, Any]) -> str:
    """Two rows are of one pair if id, pictures, instruction and label agree."""
    return "\x00".join((row["id"], *row["edits"], row["label"]))


def editor_key(row: Mapping[str, Any]) -> str:
    """Two rows are of one task if key and instruction agree: every pipeline saves the source in its own way."""
    return f"{row['key']}\x00{row['instruction']}"


def other_sources(first: Rows, second: Rows) -> int:
    """Tasks that two runs of editors share, but whose source is another file: only looking tells if it is the same."""
    ours, theirs = ({editor_key(row): row["context"] for row in rows} for rows in (first, second))
    return sum(theirs.get(key, context) != context for key, context in ours.items())


def credit(result: PairResult) -> float:
    """1 for the label, 0.5 for a tie, 0 for the other edit."""
    return 1.0 if result.choice is result.label else 0.5 if result.choice is Choice.SAME else 0.0


def _results(rows: Rows) -> dict[str, PairResult]:
    """Pairs with a preference by key, which is their id from here on."""
    results = ((judge_key(row), read_pair(row)) for row in rows)
    return {key: replace(result, id=key) for key, result in results if result.label is not Choice.SAME}


def _by_category(
    values: Sequence[float],
    names: Sequence[str],
    seed: int,
    contexts: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
) -> dict[str, Estimate]:
    of: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        of.setdefault(name, []).append(index)
    found = {}
    for name in sorted(of):
        clusters = None if contexts is None else [contexts[i] for i in of[name]]
        found[name] = mean([values[i] for i in of[name]], seed, clusters, bounds)
    return found
