"""How much better the same judge could order pairs by what it sees already.

A verifier errs in two ways: it does not see what is wrong, or it sees it and weighs it otherwise than people do. GCPO
mends the second well before the first. Here the weights are fitted: a logistic regression on the verifier's own score
and checks says which edit of a pair people preferred, measured on pairs that it was not fitted to. What it gains over
the score alone is what there is to learn without seeing anything new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from editr1.errors import DataError
from editr1.evaluation.bootstrap import DIFFERENCE, SHARE, Estimate
from editr1.evaluation.judgements import Judgement, read_judgements
from editr1.evaluation.metrics import Choice, mean
from editr1.evaluation.runs import read_rows
from editr1.types import Category

Array = npt.NDArray[np.float64]

FOLDS = 10
RIDGE = 0.01
"""Weight of the squared norm of the standardised coefficients, against a mean over pairs."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """What fitted weights gain on pairs that they were not fitted to; a tie counts half in all figures.

    Attributes:
        by_score: accuracy of the verifier's scores.
        by_weights: accuracy of the fitted weights.
        gain: the second less the first, by pair.
        weights: of a feature, in units of its standard deviation over edits, fitted to all pairs: log-odds of being
            preferred. Those of unmet checks would be below 0 if the score did not count them already.
    """

    by_score: Estimate
    by_weights: Estimate
    gain: Estimate
    weights: Mapping[str, float]


def headroom(run: str | Path, dimension: str | None = None, seed: int = 0) -> Headroom:
    """Of a finished run of `editr1 eval rm` with the verifier as scorer.

    Args:
        run: its directory.
        dimension: of the benchmark; None takes the only one.
        seed: of the folds and of the bootstrap.

    Raises:
        DataError: if there are too few pairs with a preference and two verdicts, or several dimensions.
    """
    rows = [row for row in read_rows(run) if row["label"] != Choice.SAME.value]
    found = sorted({row["dimension"] for row in rows})
    if dimension is None and len(found) > 1:
        raise DataError(f"{run} has pairs of {len(found)} dimensions: name one of {', '.join(found)}")
    said = read_judgements(Path(run) / "judgements.jsonl")
    preferred, other = [], []
    contexts: list[str] = []
    for row in rows:
        first, second = (said.get(edit) for edit in row["edits"])
        if dimension in (None, row["dimension"]) and _whole(first) and _whole(second):
            better = row["label"] == Choice.FIRST.value
            preferred.append(features(first if better else second))
            other.append(features(second if better else first))
            contexts.append(row.get("context") or f"pair {len(contexts)}")
    if len(set(contexts)) < 5 * FOLDS:
        raise DataError(
            f"{run} has {len(preferred)} pairs, of {len(set(contexts))} contexts, in which people had a preference and "
            f"both edits have a verdict with checks: pairs of {5 * FOLDS} contexts are the least that weights can be "
            "fitted to (was the scorer the verifier?)"
        )
    return fit_headroom(np.array(preferred), np.array(other), seed, contexts)


NAMES = ("score", *(f"{what} {c.name.lower()}" for c in Category for what in ("unmet", "share of unmet")))
"""What `features` gives, in order."""


def features(judgement: Judgement) -> list[float]:
    """Score, and for each category how many of its checks are not met, and what share of them."""
    found = [float(judgement.score or 0.0)]
    for category in Category:
        met = [check.met for check in judgement.checks if check.principle.category is category]
        found += [float(met.count(False)), met.count(False) / len(met) if met else 0.0]
    return found


def fit_headroom(preferred: Array, other: Array, seed: int = 0, contexts: Sequence[str] | None = None) -> Headroom:
    """From the features of both edits of each pair.

    Args:
        preferred: (pairs, features), the score first.
        other: likewise.
        seed: of the folds and of the bootstrap.
        contexts: of each pair: those of one context, which share edits or are one pair that several people compared,
            are fitted to together and resampled together; each pair is its own if None.
    """
    scale = np.concatenate([preferred, other]).std(axis=0)
    differences = (preferred - other) / np.where(scale > 0, scale, 1.0)
    owners = [str(number) for number in range(len(differences))] if contexts is None else list(contexts)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(owners))}
    fold = (np.random.default_rng(seed).permutation(len(numbers)) % FOLDS)[[numbers[name] for name in owners]]
    margins = np.empty(len(differences))
    for number in range(FOLDS):
        weights = fit_weights(differences[fold != number])
        margins[fold == number] = differences[fold == number] @ weights
    by_score, by_weights = credit(differences[:, 0]), credit(margins)
    return Headroom(
        by_score=mean(by_score.tolist(), seed, contexts, SHARE),
        by_weights=mean(by_weights.tolist(), seed, contexts, SHARE),
        gain=mean((by_weights - by_score).tolist(), seed, contexts, DIFFERENCE),
        weights=dict(zip(NAMES, map(float, fit_weights(differences)), strict=False)),
    )


def fit_weights(differences: Array) -> Array:
    """Logistic regression without intercept on differences preferred less other, by Newton's method.

    Minimises mean log(1 + exp(-d . w)) + RIDGE / 2 |w|^2 (Bradley and Terry's model with weights for features).
    """
    weights = np.zeros(differences.shape[1])
    for _ in range(50):
        wrong = 1 / (1 + np.exp(np.clip(differences @ weights, -500, 500)))
        gradient = RIDGE * weights - (differences * wrong[:, None]).mean(axis=0)
        curvature = (differences * (wrong * (1 - wrong))[:, None]).T @ differences / len(differences)
        step = np.linalg.solve(curvature + RIDGE * np.eye(len(weights)), gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def credit(margins: Array) -> Array:
    """1 for a pair in the right order, 0.5 for a tie, 0 for one in the wrong order."""
    return np.where(np.abs(margins) < 1e-9, 0.5, (margins > 0).astype(float))


def _whole(judgement: Judgement | None) -> TypeGuard[Judgement]:
    return judgement is not None and judgement.ok and judgement.score is not None and bool(judgement.checks)
