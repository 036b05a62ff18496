"""Several rewards as one, and rewards that are only watched."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from editr1.errors import ConfigError
from editr1.rewards.base import EditSample, OnResult, Reward, RewardResult
from editr1.types import VerdictStatus

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """A reward's place in a sum.

    Attributes:
        weight: positive; what the reward's value is multiplied by.
        required: whether a sample fails when this reward fails. The weight of one that is not required goes to the
            others when it fails.
    """

    reward: Reward
    weight: float = 1.0
    required: bool = True

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ConfigError(
                f"the weight of {self.reward.name!r} is {self.weight}: give a positive number, or watch the reward "
                f"without a weight"
            )


class WeightedSum:
    """The weighted sum of several rewards.

    A sample's value is the sum of weight times value over all parts. It fails when a required part fails, with that
    part's status; parts that are not required and failed are left out, and the sum is scaled by all weights over those
    left, so that it stays comparable. Each part's own result is in the result's `parts`.

    Args:
        parts: by name. At least one is required: a sum of nothing is no reward.
        name: of the whole.

    Raises:
        ConfigError: if no part is required.
    """

    def __init__(self, parts: Mapping[str, Part], *, name: str = "sum") -> None:
        if not any(part.required for part in parts.values()):
            raise ConfigError(f"none of the rewards {', '.join(parts) or '(none given)'} is required: make one so")
        self.parts = dict(parts)
        self.name = name

    def score(self, samples: Sequence[EditSample], *, on_result: OnResult | None = None) -> list[RewardResult]:
        """Reward all samples by each part, one part after the other."""
        columns = {name: part.reward.score(samples) for name, part in self.parts.items()}
        results = []
        for index in range(len(samples)):
            result = self._sum({name: column[index] for name, column in columns.items()})
            results.append(result)
            if on_result is not None:
                on_result(index, result)
        return results

    def _sum(self, found: Mapping[str, RewardResult]) -> RewardResult:
        seconds = sum(r.seconds for r in found.values())
        verdict = next((r.verdict for r in found.values() if r.verdict is not None), None)
        for name, part in self.parts.items():
            if part.required and not found[name].ok:
                failure = found[name]
                return RewardResult.failed(
                    failure.status, f"{name}: {failure.error}", parts=found, verdict=verdict, seconds=seconds
                )
        there = {name: part for name, part in self.parts.items() if found[name].ok}
        total = sum(part.weight * (found[name].value or 0.0) for name, part in there.items())
        scale = sum(p.weight for p in self.parts.values()) / sum(p.weight for p in there.values())
        return RewardResult.of(total * scale, parts=found, verdict=verdict, seconds=seconds)


class Watched:
    """A reward, with others beside it that are looked at and never learnt from.

    What the watchers say is in the `parts` of each result, under their names. They change no value, and whatever
    happens to them happens to them alone: one that breaks down as a whole gives failures and a line in the log.

    Args:
        reward: the one that is learnt from.
        watchers: by name.
    """

    def __init__(self, reward: Reward, watchers: Mapping[str, Reward]) -> None:
        self.reward = reward
        self.watchers = dict(watchers)
        self.name = reward.name

    def score(self, samples: Sequence[EditSample], *, on_result: OnResult | None = None) -> list[RewardResult]:
        """Reward all samples, then have them watched."""
        results = self.reward.score(samples)
        watched = {name: _harmless(name, watcher, samples) for name, watcher in self.watchers.items()}
        for index, result in enumerate(results):
            seen = {name: column[index] for name, column in watched.items()}
            results[index] = replace(result, parts={**result.parts, **seen})
            if on_result is not None:
                on_result(index, results[index])
        return results


def _harmless(name: str, watcher: Reward, samples: Sequence[EditSample]) -> list[RewardResult]:
    try:
        return watcher.score(samples)
    except Exception as exc:  # a watcher must not be able to stop a run, whatever is wrong with it
        _log.warning("the watched reward %s broke down: %s", name, exc)
        return [RewardResult.failed(VerdictStatus.ERROR, f"{type(exc).__name__}: {exc}")] * len(samples)
