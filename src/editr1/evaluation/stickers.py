"""How well a verifier judges held-out sticker edits, against the oracle.

Three measurements, each on contexts that no training saw: single edits (does every check agree with the truth?), pairs
of edits of one context (is the better one scored higher?), and probes (does a right edit beat the unchanged picture
and a wrong picture?). Failed verdicts are counted, and count as wrong wherever an answer was due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np

from editr1.evaluation.bootstrap import DIFFERENCE, SHARE, Array, Estimate, balanced, bootstrap, share
from editr1.stickers.draw import draw
from editr1.stickers.examples import sample_edit
from editr1.stickers.faults import EDITORS, StickerEdit, wrong_picture
from editr1.stickers.oracle import utility
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.types import Category, EditVerdict

PAIR_MARGIN = 0.5
"""Two edits whose utilities (0-10) differ by less are no pair: nobody could say which is better."""

Progress = Callable[[str], None]


class Scorer(Protocol):
    """What is evaluated: a `Verifier`, or anything with its `score_many`."""

    def score_many(self, items: Sequence[Any], *, progress: bool = False) -> list[EditVerdict]:
        """One verdict per item, in order."""
        ...


def item(task: StickerTask, scene: Any, name: str) -> dict[str, Any]:
    """An edit as the verifier takes it, its principles given."""
    return {
        "id": f"{task.id}/{name}",
        "source": draw(task.before),
        "edited": draw(scene),
        "instruction": task.instruction,
        "principles": task.principles,
    }


@dataclass(frozen=True, slots=True)
class EditsResult:
    """Single edits.

    Attributes:
        parsed: share of edits with a verdict.
        accuracy: share of checks that agree with the truth, over the checks of parsed verdicts.
        balanced: mean of the recalls of met and of unmet principles, overall and by category.
        by_kind: accuracy by edit kind.
        rank_correlation: Spearman's, of score and utility.
        failures: edits without a verdict, by status.
        agreed: by edit with a verdict, how many of its checks agree with the truth, and how many it has.
    """

    parsed: Estimate
    accuracy: Estimate
    balanced: dict[str, Estimate]
    by_kind: dict[str, Estimate]
    rank_correlation: float
    failures: dict[str, int]
    agreed: dict[str, tuple[int, int]]


def evaluate_edits(verifier: Scorer, number: int = 1000, split: str = "test", progress: bool = False) -> EditsResult:
    """Check every principle of `number` edits by the whole pool of faulty editors."""
    edits = [sample_edit(split, i) for i in range(number)]
    verdicts = verifier.score_many([item(e.task, e.scene, e.editor) for e in edits], progress=progress)
    parsed = np.array([[v.ok, 1] for v in verdicts], float)
    good = [(e, v) for e, v in zip(edits, verdicts, strict=True) if v.ok]
    rows = {name: np.array([_counts(e, v, category) for e, v in good]) for name, category in _FAMILIES.items()}
    kinds = sorted({e.task.kind for e, _ in good})
    all_counts = rows["All"]
    by_kind = {k.value: all_counts[[e.task.kind is k for e, _ in good]] for k in kinds}
    return EditsResult(
        parsed=bootstrap(parsed, share, bounds=SHARE),
        accuracy=bootstrap(all_counts, _accuracy, bounds=SHARE),
        balanced={name: bootstrap(counts, balanced, bounds=SHARE) for name, counts in rows.items()},
        by_kind={name: bootstrap(counts, _accuracy, bounds=SHARE) for name, counts in by_kind.items()},
        rank_correlation=_spearman([v.score or 0.0 for _, v in good], [utility(e.task, e.scene) for e, _ in good]),
        failures=dict(Counter(v.status.value for v in verdicts if not v.ok)),
        agreed={
            f"{e.task.id}/{e.editor}": (int(row[0] + row[2]), int(row[1] + row[3]))
            for (e, _), row in zip(good, all_counts, strict=True)
        },
    )


def accuracy_difference(
    first: Mapping[str, Sequence[int]], second: Mapping[str, Sequence[int]], seed: int = 0
) -> Estimate:
    """How much more often the checks of a second verifier agree with the truth, edits resampled whole.

    Args:
        first: `EditsResult.agreed` of the one; edits that only one has a verdict on are left out.
        second: of the other.
        seed: of the bootstrap.

    Raises:
        ValueError: if no edit has a verdict of both.
    """
    common = sorted(first.keys() & second.keys())
    counts = np.array([[*first[name], *second[name]] for name in common], float).reshape(len(common), 4)
    return bootstrap(counts, lambda s: s[..., 2] / s[..., 3] - s[..., 0] / s[..., 1], seed=seed, bounds=DIFFERENCE)


_FAMILIES: dict[str, Category | None] = {"All": None, **{c.short: c for c in Category}}


def _counts(edit: StickerEdit, verdict: EditVerdict, category: Category | None) -> list[float]:
    """Of one edit's checks: right yes, yes, right no, no."""
    counts = [0.0] * 4
    assert verdict.checks is not None
    for check, true in zip(verdict.checks, edit.task.truth(edit.scene), strict=True):
        if category in (None, check.principle.category):
            counts[0 if true else 2] += check.met == true
            counts[1 if true else 3] += 1
    return counts


def _accuracy(sums: Array) -> Array:
    return np.asarray((sums[..., 0] + sums[..., 2]) / (sums[..., 1] + sums[..., 3]))


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, ties sharing their mean rank."""
    ranks = [_ranks(np.asarray(x, float)) for x in (first, second)]
    if len(first) < 2 or any(r.std() == 0 for r in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])


@dataclass(frozen=True, slots=True)
class PairsResult:
    """Pairs: strict accuracy (a tie is wrong), half credit for ties, share of ties, pairs without both verdicts."""

    strict: Estimate
    half_credit: Estimate
    ties: Estimate
    failed: int


def sample_pair(split: str, index: int, margin: float = PAIR_MARGIN) -> tuple[StickerEdit, StickerEdit]:
    """Two unlike edits of one context whose utilities differ by at least `margin`, the better one first."""
    task = sample_task(split, index)
    rng = Random(f"sticker-pair/{split}/{index}")
    for seed in range(1000):
        names = rng.choices(list(EDITORS), k=2)
        edits = [EDITORS[n].edit(task, seed=1 + 2 * seed + i) for i, n in enumerate(names)]
        worth = [utility(task, e.scene) for e in edits]
        if abs(worth[0] - worth[1]) >= margin and edits[0].scene != edits[1].scene:
            return (edits[0], edits[1]) if worth[0] > worth[1] else (edits[1], edits[0])
    raise RuntimeError(f"no pair of edits of {task.id} differs by {margin}")


def evaluate_pairs(
    verifier: Scorer, number: int = 1000, split: str = "test-pairs", progress: bool = False
) -> PairsResult:
    """Is the better of two edits of one context scored higher? `number` pairs."""
    pairs = [sample_pair(split, i) for i in range(number)]
    items = [item(e.task, e.scene, f"{n}-{e.editor}") for p in pairs for n, e in enumerate(p)]
    verdicts = verifier.score_many(items, progress=progress)
    outcomes = [_outcome(verdicts[2 * i], verdicts[2 * i + 1]) for i in range(number)]
    columns = {"win": (1.0, 0.0, 1.0), "tie": (0.0, 1.0, 1.0)}  # wins, ties, pairs
    counts = np.array([columns.get(o, (0.0, 0.0, 1.0)) for o in outcomes])
    return PairsResult(
        strict=bootstrap(counts, lambda s: s[..., 0] / s[..., 2], bounds=SHARE),
        half_credit=bootstrap(counts, lambda s: (s[..., 0] + s[..., 1] / 2) / s[..., 2], bounds=SHARE),
        ties=bootstrap(counts, lambda s: s[..., 1] / s[..., 2], bounds=SHARE),
        failed=outcomes.count("failed"),
    )


def _outcome(better: EditVerdict, worse: EditVerdict) -> str:
    if better.score is None or worse.score is None:
        return "failed"
    return "win" if better.score > worse.score else "tie" if better.score == worse.score else "loss"


@dataclass(frozen=True, slots=True)
class ProbesResult:
    """Probes: share of contexts where the right edit scores above both others; mean scores of the three."""

    ordered: Estimate
    above_unchanged: Estimate
    above_wrong: Estimate
    mean_scores: dict[str, float]
    failed: int


def evaluate_probes(
    verifier: Scorer, number: int = 300, split: str = "test-probes", progress: bool = False
) -> ProbesResult:
    """Does a right edit score above the unchanged picture, and above a wrong picture? `number` contexts."""
    items = []
    for i in range(number):
        task = sample_task(split, i)
        wrong = wrong_picture(task, task.after, Random(f"sticker-probe/{split}/{i}"))
        items += [item(task, s, n) for n, s in (("right", task.after), ("unchanged", task.before), ("wrong", wrong))]
    verdicts = verifier.score_many(items, progress=progress)
    rows, means = [], {"right": list[float](), "unchanged": list[float](), "wrong": list[float]()}
    for i in range(number):
        right, unchanged, wrong_one = (v.score for v in verdicts[3 * i : 3 * i + 3])
        first = right is not None and unchanged is not None and right > unchanged
        second = right is not None and wrong_one is not None and right > wrong_one
        rows.append([first and second, first, second, 1])
        for name, value in zip(means, (right, unchanged, wrong_one), strict=True):
            means[name] += [] if value is None else [value]
    counts = np.array(rows, float)
    return ProbesResult(
        ordered=bootstrap(counts[:, [0, 3]], share, bounds=SHARE),
        above_unchanged=bootstrap(counts[:, [1, 3]], share, bounds=SHARE),
        above_wrong=bootstrap(counts[:, [2, 3]], share, bounds=SHARE),
        mean_scores={name: float(np.mean(values)) if values else float("nan") for name, values in means.items()},
        failed=sum(not v.ok for v in verdicts),
    )
