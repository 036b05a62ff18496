"""Agreement between annotators: Cohen's kappa for two, Krippendorff's alpha for any number with gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

Scale = Literal["nominal", "ordinal"]


def cohen_kappa(first: Sequence[int], second: Sequence[int]) -> float:
    """Agreement of two annotators beyond chance, at most 1; NaN where chance alone makes them agree, or without marks.

    Args:
        first: marks of one annotator.
        second: the other's on the same items, in the same order.
    """
    if len(first) != len(second):
        raise ValueError(f"both annotators must mark the same items, got {len(first)} and {len(second)} marks")
    if not first:
        return math.nan
    number = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / number
    chance = sum(first.count(v) * second.count(v) for v in set(first) | set(second)) / number**2
    return math.nan if chance == 1 else (observed - chance) / (1 - chance)


def kappas(marks: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, str], tuple[float, int]]:
    """Cohen's kappa of each two annotators and the number of items both marked; annotator -> item -> mark."""
    found = {}
    for one, two in combinations(sorted(marks), 2):
        items = sorted(marks[one].keys() & marks[two].keys())
        if items:
            ours, theirs = ([marks[who][item] for item in items] for who in (one, two))
            found[one, two] = (cohen_kappa(ours, theirs), len(items))
    return found


def krippendorff_alpha(units: Sequence[Sequence[int]], scale: Scale = "nominal") -> float:
    """Krippendorff's alpha: 1 is perfect agreement, 0 is chance; NaN if no unit has two marks, or all marks are equal.

    From the coincidence matrix: each ordered pair of marks of one unit enters with weight 1 / (marks of the unit - 1).

    Args:
        units: the marks of each item, integers from 0 in the order of the scale; gaps are simply left out.
        scale: "nominal": two marks agree or they do not; "ordinal": the further apart in rank, the worse.
    """
    paired = [list(unit) for unit in units if len(unit) > 1]
    if not paired:
        return math.nan
    levels = 1 + max(max(unit) for unit in paired)
    coincidences = np.zeros((levels, levels))
    for unit in paired:
        counts = np.bincount(unit, minlength=levels).astype(float)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = coincidences.sum(axis=0)
    distance = _DISTANCES[scale](totals)
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected) if expected else math.nan


Floats = npt.NDArray[np.float64]


def _nominal(totals: Floats) -> Floats:
    return 1 - np.eye(len(totals))


def _ordinal(totals: Floats) -> Floats:
    """Squared number of marks between two levels, the two levels themselves counted half."""
    below = np.cumsum(totals) - totals / 2
    return np.asarray((below[:, None] - below[None, :]) ** 2)


_DISTANCES = {"nominal": _nominal, "ordinal": _ordinal}
