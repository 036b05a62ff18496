"""Percentile bootstrap intervals for figures that are computed from per-item counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its 95 % interval, and the number of items behind it."""

    value: float
    low: float
    high: float
    items: int

    def to_dict(self) -> dict[str, float | int]:
        """All fields by name."""
        return {"value": self.value, "low": self.low, "high": self.high, "items": self.items}

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def bootstrap(
    counts: Array, statistic: Callable[[Array], Array], resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """A statistic of summed counts, with its percentile interval over resampled items.

    Items (edits, pairs) are resampled whole, so that the several checks of one edit stay together.

    Args:
        counts: (items, columns), e.g. columns (right, total).
        statistic: takes sums of shape (..., columns) and gives (...); NaN where it is undefined.
        resamples: how many.
        seed: of the resampling.
        level: of the interval.

    Raises:
        ValueError: if there are no items.
    """
    items = len(counts)
    if not items:
        raise ValueError("no items to estimate from")
    rng = np.random.default_rng(seed)
    sums = np.stack([rng.multinomial(items, np.full(items, 1 / items)) @ counts for _ in range(resamples)])
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(counts.sum(axis=0)))
        draws = statistic(sums)
    tail = (1 - level) / 2
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [tail, 1 - tail]) if len(draws) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), items)


def share(sums: Array) -> Array:
    """Columns (right, total) -> right / total."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def balanced(sums: Array) -> Array:
    """Columns (right yes, yes, right no, no) -> mean of the two recalls."""
    return np.asarray((sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2)
