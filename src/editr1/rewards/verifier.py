"""The verifier in this process as a reward: the tau of section 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from editr1.errors import ConfigError, JudgeError
from editr1.rewards.base import EditSample, OnResult, RewardResult
from editr1.types import EditVerdict, VerdictStatus

if TYPE_CHECKING:
    from editr1.verifier import Verifier

Scale = Literal["unit", "score"]
"""`unit`: the score divided by 10, in [0, 1]. `score`: as it is, in [0, 10]."""


class VerifierReward:
    """A verifier's final score.

    Each distinct context, by the content of picture and instruction, is split into principles once, however many
    samples and iterations it comes back in: the verifier remembers them (4096 contexts). Samples whose task has
    principles need none of that.

    Args:
        verifier: judges.
        scale: see `Scale`.
        name: of the reward.

    Raises:
        ConfigError: if the scale is unknown.
    """

    def __init__(self, verifier: Verifier, *, scale: Scale = "unit", name: str = "verifier") -> None:
        self.verifier = verifier
        self.scale = check_scale(scale)
        self.name = name
        self._ever_answered = False

    def score(self, samples: Sequence[EditSample], *, on_result: OnResult | None = None) -> list[RewardResult]:
        """Reward all samples in one call of the verifier, which shares what those of one context have in common.

        Raises:
            JudgeError: if the judge cannot work and never did. One that breaks down later gives failures.
        """
        results: dict[int, RewardResult] = {}

        def take(index: int, result: RewardResult) -> None:
            results[index] = result
            if on_result is not None:
                on_result(index, result)

        try:
            items = [as_item(s) for s in samples]
            self.verifier.score_many(items, on_verdict=lambda i, v: take(i, from_verdict(v, self.scale)))
        except JudgeError as exc:
            if not (self._ever_answered or any(r.ok for r in results.values())):
                raise
            for index in range(len(samples)):
                if index not in results:
                    take(index, RewardResult.failed(VerdictStatus.ERROR, f"the judge broke down: {exc}"))
        self._ever_answered |= any(r.ok for r in results.values())
        return [results[index] for index in range(len(samples))]


def as_item(sample: EditSample) -> dict[str, object]:
    """A sample as the verifier takes it."""
    task = sample.task
    return {
        "id": sample.name,
        "source": task.source,
        "edited": sample.edited,
        "instruction": task.instruction,
        "principles": task.principles,
    }


def from_verdict(verdict: EditVerdict, scale: Scale) -> RewardResult:
    """A verdict as a result; its status and reason stay what they are."""
    if verdict.score is None:
        reason = verdict.error or f"no score ({verdict.status.value})"
        return RewardResult.failed(verdict.status, reason, verdict=verdict, seconds=verdict.seconds)
    value = verdict.score / 10 if scale == "unit" else verdict.score
    return RewardResult.of(value, verdict=verdict, seconds=verdict.seconds)


def check_scale(scale: Scale) -> Scale:
    """The scale, if there is such a one."""
    if scale not in get_args(Scale):
        raise ConfigError(f"unknown scale {scale!r}: use one of {', '.join(get_args(Scale))}")
    return scale
