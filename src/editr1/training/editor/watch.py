"""What is watched while an editor learns: rewards, and the signs that they are being gamed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, pstdev

import numpy as np
from PIL import Image

from editr1.rewards.base import RewardResult
from editr1.rewards.pixels import levels
from editr1.types import VerdictStatus

_THUMBNAIL = 64


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """What all processes know of a group.

    Attributes:
        slot: number of its context in the iteration.
        task, kind: of the context.
        results: one for each picture, in order, without verdicts.
        unchanged: whether each picture is the source.
        diversity: see `diversity`.
    """

    slot: int
    task: str
    kind: str | None
    results: tuple[RewardResult, ...]
    unchanged: tuple[bool, ...]
    diversity: float

    @property
    def values(self) -> list[float]:
        """Rewards of those pictures that have one."""
        return [result.value for result in self.results if result.value is not None]


def diversity(images: Sequence[Image.Image]) -> float:
    """Mean difference between two pictures of a group, in levels of 255, seen small; 0 for a single one."""
    small = [levels(image.resize(_fit(image.size), Image.Resampling.BOX)) for image in images]
    return fmean(float(np.abs(a - b).mean()) for a, b in combinations(small, 2)) if len(small) > 1 else 0.0


def reward_metrics(records: Sequence[GroupRecord], watched: Iterable[str] = ()) -> dict[str, float]:
    """Of the groups of an iteration, or of an evaluation.

    Args:
        records: of all processes.
        watched: names of rewards that are only looked at.

    Returns:
        reward, reward_std: mean and deviation of all rewards; reward/<kind>: means by kind of edit;
        group_std: mean deviation within a group; zero_variance: share of groups without any, which teach nothing;
        watch/<name>, part/<name>: means of watched rewards, and of those that a sum is made of;
        unchanged: share of pictures that are the source; diversity: mean over groups;
        unscored, unreadable: share of pictures without a reward, and of those whose verdict could not be read.
        A mean over nothing is left out.
    """
    results = [result for record in records for result in record.results]
    values = [value for record in records for value in record.values]
    metrics: dict[str, float] = {}
    if values:
        metrics |= {"reward": fmean(values), "reward_std": pstdev(values)}
    metrics["group_std"] = fmean(pstdev(record.values) if record.values else 0.0 for record in records)
    metrics["zero_variance"] = fmean(float(len(set(record.values)) < 2) for record in records)
    metrics["unchanged"] = fmean(float(same) for record in records for same in record.unchanged)
    metrics["diversity"] = fmean(record.diversity for record in records)
    metrics["unscored"] = fmean(float(not result.ok) for result in results)
    metrics["unreadable"] = fmean(float(result.status is VerdictStatus.UNPARSEABLE) for result in results)
    by_kind: dict[str, list[float]] = defaultdict(list)
    for record in records:
        by_kind[record.kind or ""] += record.values
    metrics |= {f"reward/{kind}": fmean(found) for kind, found in sorted(by_kind.items()) if kind and found}
    return metrics | _parts(results, set(watched))


def _parts(results: Sequence[RewardResult], watched: set[str]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for name, part in result.parts.items():
            if part.value is not None:
                found[f"{'watch' if name in watched else 'part'}/{name}"].append(part.value)
    return {name: fmean(values) for name, values in sorted(found.items())}


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(_THUMBNAIL / max(size), 1.0)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
