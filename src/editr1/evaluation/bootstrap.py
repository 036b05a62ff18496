"""Percentile bootstrap intervals for figures that are computed from per-item counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_ROUNDING = 1e-12
"""Resamples whose statistic differs by no more agree."""


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
    counts: Array,
    statistic: Callable[[Array], Array],
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    clusters: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """A statistic of summed counts, with its percentile interval over resampled items.

    Items (edits, pairs) are resampled whole, so that the several checks of one edit stay together; and so are clusters
    of them, say the comparisons of one context: they go right and wrong together, and an interval that took them for
    independent would be too narrow.

    Args:
        counts: (items, columns), e.g. columns (right, total).
        statistic: takes sums of shape (..., columns) and gives (...); NaN where it is undefined.
        resamples: how many.
        seed: of the resampling.
        level: of the interval.
        clusters: of each item, what it belongs to; each item is its own if None.
        bounds: least and greatest value that the statistic can have. Where all resamples agree, because every item is
            right, or there is one cluster, the percentile interval has no width, which would be false certainty; it
            then reaches towards the bounds as far as the exact binomial (Clopper-Pearson) limit of n of n.

    Raises:
        ValueError: if there are no items.
    """
    items = len(counts)
    if not items:
        raise ValueError("no items to estimate from")
    drawn = counts if clusters is None else summed(counts, clusters)
    rng, number = np.random.default_rng(seed), len(drawn)
    sums = np.stack([rng.multinomial(number, np.full(number, 1 / number)) @ drawn for _ in range(resamples)])
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(counts.sum(axis=0)))
        draws = statistic(sums)
    tail = (1 - level) / 2
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [tail, 1 - tail]) if len(draws) else (np.nan, np.nan)
    if bounds is not None and high - low <= _ROUNDING * max(abs(value), 1.0):
        unseen = 1 - tail ** (1 / number)  # share of clusters that may be otherwise, though none of these is
        low, high = value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    return Estimate(value, float(low), float(high), items)


def summed(counts: Array, clusters: Sequence[str]) -> Array:
    """Counts added up by cluster, clusters in order of first appearance: (items, columns) -> (clusters, columns)."""
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(name, len(numbers)) for name in clusters]
    found = np.zeros((len(numbers), counts.shape[1]))
    np.add.at(found, index, counts)
    return found


SHARE = (0.0, 1.0)
"""Bounds of a share of items."""
DIFFERENCE = (-1.0, 1.0)
"""Bounds of a difference between two shares."""


def share(sums: Array) -> Array:
    """Columns (right, total) -> right / total."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def balanced(sums: Array) -> Array:
    """Columns (right yes, yes, right no, no) -> mean of the two recalls."""
    return np.asarray((sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2)
