"""Figures from preferences between two edits: accuracy with and without ties, by task, by group; two judges compared.

A pair has a label, what people preferred, and a choice, what the judge preferred. A pair that the judge failed on has
no choice: it is counted apart and enters no accuracy, so that accuracy always means "of the pairs it answered".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from editr1.evaluation.bootstrap import DIFFERENCE, SHARE, Array, Estimate, bootstrap, share, summed

ROUNDING = 1e-9
"""Scores have a few decimals: differences below this one are those of their binary form."""


class Choice(StrEnum):
    """Which of two edits is the better one."""

    FIRST = "first"
    SECOND = "second"
    SAME = "same"

    @property
    def swapped(self) -> Choice:
        """The same choice when the two edits change places."""
        return {Choice.FIRST: Choice.SECOND, Choice.SECOND: Choice.FIRST}.get(self, self)


@dataclass(frozen=True, slots=True)
class PairResult:
    """A pair, what people said and what the judge said.

    Attributes:
        id: of the pair.
        label: what people preferred.
        choice: what the judge preferred; None if it failed.
        task: kind of edit, for the macro mean.
        dimension: what the preference is about, e.g. "overall".
        group: pairs of one group are right only together; empty for a pair by itself.
        context: source and instruction: pairs of one context are resampled together; empty for a pair by itself.
        orders: a pairwise judge's answers with the first edit shown first, and with the second shown first; None where
            it failed or was not asked. Empty for pointwise judges.
    """

    id: str
    label: Choice
    choice: Choice | None
    task: str = ""
    dimension: str = ""
    group: str = ""
    orders: tuple[Choice | None, ...] = ()
    context: str = ""


def contexts_of(results: Iterable[PairResult]) -> list[str]:
    """The context of each pair; a pair without one is its own."""
    return [r.context or f"pair {r.id}" for r in results]


def prefer(first: float | None, second: float | None, margin: float = 0.0) -> Choice | None:
    """The choice that two scores make: the higher one, or "same" if they differ by no more than `margin`.

    None if a score is missing. Scores are compared to a billionth: 7.4 and 7.1 differ by 0.3, whatever their floats do.
    """
    if first is None or second is None:
        return None
    if abs(first - second) <= margin + ROUNDING:
        return Choice.SAME
    return Choice.FIRST if first > second else Choice.SECOND


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a judge agrees with people, over pairs in which they had a preference.

    Attributes:
        pairs: all of them; `failed`: those without an answer, which enter nothing but `failures_as_wrong`.
        strict: a tie is wrong.
        half_credit: a tie counts half.
        ties: share of ties.
        macro_strict, macro_half_credit: means of the tasks' figures, each task with the same weight.
        failures_as_wrong: strict accuracy over all pairs, as if each failure were a wrong answer.
        tasks: strict accuracy by task.
    """

    pairs: int
    failed: int
    strict: Estimate
    half_credit: Estimate
    ties: Estimate
    macro_strict: Estimate
    macro_half_credit: Estimate
    failures_as_wrong: Estimate
    tasks: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, estimates as objects."""
        figures = ("strict", "half_credit", "ties", "macro_strict", "macro_half_credit", "failures_as_wrong")
        return {
            "pairs": self.pairs,
            "failed": self.failed,
            **{name: getattr(self, name).to_dict() for name in figures},
            "tasks": {name: estimate.to_dict() for name, estimate in self.tasks.items()},
        }


def accuracy(results: Iterable[PairResult], seed: int = 0) -> Accuracy | None:
    """Accuracy over the pairs in which people had a preference; None if none of them was answered."""
    wanted = [r for r in results if r.label is not Choice.SAME]
    answered = [r for r in wanted if r.choice is not None]
    if not answered:
        return None
    right = np.array([float(r.choice is r.label) for r in answered])
    tied = np.array([float(r.choice is Choice.SAME) for r in answered])
    half = right + tied / 2
    names = sorted({r.task for r in answered})
    member = np.array([[float(r.task == name) for name in names] for r in answered])
    contexts = contexts_of(answered)

    def of(column: Array, chosen: Sequence[str]) -> Estimate:
        return bootstrap(
            np.stack([column, np.ones(len(column))], axis=1), share, seed=seed, clusters=chosen, bounds=SHARE
        )

    def macro(column: Array) -> Estimate:
        counts = np.concatenate([member * column[:, None], member], axis=1)
        return bootstrap(counts, mean_of_shares, seed=seed, clusters=contexts, bounds=SHARE)

    everything = np.array([float(r.choice is r.label) for r in wanted])
    return Accuracy(
        pairs=len(wanted),
        failed=len(wanted) - len(answered),
        strict=of(right, contexts),
        half_credit=of(half, contexts),
        ties=of(tied, contexts),
        macro_strict=macro(right),
        macro_half_credit=macro(half),
        failures_as_wrong=of(everything, contexts_of(wanted)),
        tasks={
            name: of(right[member[:, i] > 0], [c for c, r in zip(contexts, answered, strict=True) if r.task == name])
            for i, name in enumerate(names)
        },
    )


def exact_match(results: Iterable[PairResult], seed: int = 0) -> Estimate | None:
    """How often the choice is the label, "same" being an answer like the others; None if nothing was answered."""
    answered = [r for r in results if r.choice is not None]
    if not answered:
        return None
    counts = np.array([[float(r.choice is r.label), 1.0] for r in answered])
    return bootstrap(counts, share, seed=seed, clusters=contexts_of(answered), bounds=SHARE)


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """Share of groups all of whose pairs are right.

    Attributes:
        right: of the groups all of whose pairs were answered.
        failed: the other groups.
        failures_as_wrong: over all groups, as if each failure were a wrong answer.
    """

    right: Estimate | None
    failed: int
    failures_as_wrong: Estimate | None


def group_accuracy(results: Iterable[PairResult], seed: int = 0) -> GroupAccuracy:
    """Accuracy of groups: exact match of every pair that shares a `group`."""
    groups: dict[str, list[PairResult]] = defaultdict(list)
    for result in results:
        groups[result.group].append(result)
    whole = [group for group in groups.values() if all(r.choice is not None for r in group)]

    def right(chosen: Iterable[Sequence[PairResult]]) -> Estimate | None:
        counts = np.array([[float(all(r.choice is r.label for r in group)), 1.0] for group in chosen])
        return bootstrap(counts, share, seed=seed, bounds=SHARE) if len(counts) else None

    return GroupAccuracy(right(whole), len(groups) - len(whole), right(groups.values()))


@dataclass(frozen=True, slots=True)
class OrderCheck:
    """What a pairwise judge does when the two edits change places, over pairs answered in both orders.

    Attributes:
        consistent: share of pairs with the same answer in both orders.
        inconsistent: number of the others; they count as ties.
        first_shown: of all answers that are no tie, the share that went to the edit shown first; 0.5 is unbiased.
        both_orders: accuracy in which each order is a trial of its own, over pairs with a preference.
    """

    consistent: Estimate
    inconsistent: int
    first_shown: float
    both_orders: Estimate | None


def order_check(results: Iterable[PairResult], seed: int = 0) -> OrderCheck | None:
    """Consistency of a pairwise judge; None if no pair was answered in both orders.

    `both_orders` also uses pairs of which only one order was answered.
    """
    results = [r for r in results if any(r.orders)]
    both = [r for r in results if len(r.orders) == 2 and all(r.orders)]
    if not both:
        return None
    agree = [r.orders[0] is r.orders[1] for r in both]
    # shown first is the first edit in the first order, the second edit in the second order
    picks = [r.orders[i] is shown for r in both for i, shown in enumerate(_SHOWN) if r.orders[i] is not Choice.SAME]
    preferred = [r for r in results if r.label is not Choice.SAME]
    trials = np.array([[sum(o is r.label for o in r.orders), sum(o is not None for o in r.orders)] for r in preferred])
    consistent = np.array([[float(a), 1.0] for a in agree])
    return OrderCheck(
        consistent=bootstrap(consistent, share, seed=seed, clusters=contexts_of(both), bounds=SHARE),
        inconsistent=agree.count(False),
        first_shown=sum(picks) / len(picks) if picks else math.nan,
        both_orders=bootstrap(trials.astype(float), share, seed=seed, clusters=contexts_of(preferred), bounds=SHARE)
        if len(trials)
        else None,
    )


_SHOWN = (Choice.FIRST, Choice.SECOND)


@dataclass(frozen=True, slots=True)
class JudgesCompared:
    """Two judges on the pairs that both answered and on which people had a preference.

    Attributes:
        difference: strict accuracy of the second judge less that of the first, resampled over contexts.
        half_credit_difference: likewise with half a point for a tie.
        only_first, only_second: pairs that one of the two got right (strictly) and the other did not.
        contexts: how many these pairs are of.
        p_value: exact sign test over contexts, two-sided: how likely it is for equal judges that so many more are won
            by one of them. With a pair for each context it is McNemar's exact test.
        left_out: pairs that one of them has no answer for.
    """

    difference: Estimate
    half_credit_difference: Estimate
    only_first: int
    only_second: int
    contexts: int
    p_value: float
    left_out: int


def compare_judges(first: Iterable[PairResult], second: Iterable[PairResult], seed: int = 0) -> JudgesCompared | None:
    """Compare two judges on the same pairs, matched by id; None if they share no answered pair."""
    ours = {r.id: r for r in first if r.label is not Choice.SAME}
    theirs = {r.id: r for r in second if r.label is not Choice.SAME}
    known = dict.fromkeys([*ours, *theirs])
    shared = [
        (ours[i], theirs[i])
        for i in known
        if i in ours and i in theirs and ours[i].choice is not None and theirs[i].choice is not None
    ]
    if not shared:
        return None
    right = np.array([[float(r.choice is r.label) for r in pair] for pair in shared])
    half = right + np.array([[float(r.choice is Choice.SAME) / 2 for r in pair] for pair in shared])
    contexts = contexts_of(first for first, _ in shared)
    gains, half_gains = (np.stack([of[:, 1] - of[:, 0], np.ones(len(shared))], axis=1) for of in (right, half))
    net = summed(gains, contexts)[:, 0]
    return JudgesCompared(
        difference=bootstrap(gains, share, seed=seed, clusters=contexts, bounds=DIFFERENCE),
        half_credit_difference=bootstrap(half_gains, share, seed=seed, clusters=contexts, bounds=DIFFERENCE),
        only_first=int((gains[:, 0] < 0).sum()),
        only_second=int((gains[:, 0] > 0).sum()),
        contexts=len(net),
        p_value=sign_test(int((net > 0).sum()), int((net < 0).sum())),
        left_out=len(known) - len(shared),
    )


def sign_test(plus: int, minus: int) -> float:
    """Two-sided p-value of the exact sign test: so uneven a split, or a more uneven one, under a fair coin.

    Ties are left out before; with nothing left, the p-value is 1.
    """
    number = plus + minus
    tail = sum(math.comb(number, k) for k in range(min(plus, minus) + 1))
    return min(1.0, 2 * tail / 2**number)


def mean_of_shares(sums: Array) -> Array:
    """Columns (right of each task ..., total of each task ...) -> mean of right / total over the tasks that are there.

    A task that a resample happens to miss is left out of that resample's mean.
    """
    tasks = sums.shape[-1] // 2
    return np.asarray(np.nanmean(sums[..., :tasks] / sums[..., tasks:], axis=-1))


def macro_mean(
    values: Sequence[float],
    names: Sequence[str],
    seed: int = 0,
    contexts: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Mean of the means by name, each name with the same weight, resampled over items, or over their contexts.

    Args:
        values: of each item.
        names: of each item, what it is averaged with first.
        seed: of the bootstrap.
        contexts: of each item, what it is resampled with; each item is its own if None.
        bounds: least and greatest value there can be, see `bootstrap`.

    Raises:
        ValueError: if there are no values.
    """
    kinds = sorted(set(names))
    member = np.array([[float(name == kind) for kind in kinds] for name in names]).reshape(len(names), len(kinds))
    counts = np.concatenate([member * np.asarray(values, float)[:, None], member], axis=1)
    return bootstrap(counts, mean_of_shares, seed=seed, clusters=contexts, bounds=bounds)


def mean(
    values: Sequence[float],
    seed: int = 0,
    contexts: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Mean with its interval over items, or over their contexts; `bounds` as for `macro_mean`.

    Raises:
        ValueError: if there are no values.
    """
    column = np.asarray(values, float)
    counts = np.stack([column, np.ones(len(column))], axis=1)
    return bootstrap(counts, share, seed=seed, clusters=contexts, bounds=bounds)
