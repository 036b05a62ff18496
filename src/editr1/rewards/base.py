"""What editor training sees of a reward: samples in, one result each out, a failure never being a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from editr1.errors import Editr1Error
from editr1.types import EditTask, EditVerdict, ImageLike, VerdictStatus

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EditSample:
    """One picture that an editor made, to be rewarded.

    Attributes:
        task: the context: source picture, instruction, and principles if they are known.
        edited: the picture.
        id: names the sample in messages and reports; the task's id by default.
        keep: (height, width) bool of the source's size, true where a right edit leaves the pixels alone; None if
            nobody knows.
        truth: what a simulation knows of the edited picture, such as the `Scene` that it was drawn from.
    """

    task: EditTask
    edited: ImageLike
    id: str = ""
    keep: Mask | None = None
    truth: Any = None

    @property
    def name(self) -> str:
        """The id, or the task's."""
        return self.id or self.task.id


@dataclass(frozen=True, slots=True)
class RewardResult:
    """The reward of one sample, or the record of why there is none.

    Attributes:
        status: `ok`, or the kind of failure.
        value: finite; None unless the status is ok. The range is the reward's own.
        error: for a failure, what went wrong, in one sentence.
        parts: by name, the results that the value was made of, and those that were only watched.
        verdict: the judgement behind the value, if there was one.
        seconds: spent on this sample; in a batch, its share.
    """

    status: VerdictStatus
    value: float | None = None
    error: str | None = None
    parts: Mapping[str, RewardResult] = field(default_factory=dict)
    verdict: EditVerdict | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.ok != (self.value is not None):
            raise ValueError(f"a result has a value if and only if its status is ok, got {self.status}, {self.value}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a reward is a finite number, got {self.value}: report a failure instead")

    @classmethod
    def of(cls, value: float, **more: Any) -> RewardResult:
        """A result with a value. One that is not finite becomes a failure that says so."""
        if not math.isfinite(value):
            return cls(VerdictStatus.ERROR, error=f"the reward came out as {value}", **more)
        return cls(VerdictStatus.OK, float(value), **more)

    @classmethod
    def failed(cls, status: VerdictStatus, error: str, **more: Any) -> RewardResult:
        """A failure and its reason."""
        return cls(status, None, error, **more)

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.status is VerdictStatus.OK


OnResult: TypeAlias = Callable[[int, RewardResult], None]


@runtime_checkable
class Reward(Protocol):
    """Anything that rewards edits.

    Attributes:
        name: for people, logs and the parts of a result.
    """

    name: str

    def score(self, samples: Sequence[EditSample], *, on_result: OnResult | None = None) -> list[RewardResult]:
        """Reward all samples: same length, same order.

        Args:
            samples: any number; those of one context need not stand together, but are cheaper if they do.
            on_result: called in the calling thread as `on_result(index, result)` as soon as a result is there, so
                that what is finished is kept whatever happens to the rest.

        Raises:
            RewardError, JudgeError: only if the reward as a whole cannot work, and never could.
        """
        ...


def each(
    samples: Sequence[EditSample], one: Callable[[EditSample], RewardResult], on_result: OnResult | None
) -> list[RewardResult]:
    """Reward samples one by one. An error that editr1 raises on purpose is that sample's failure."""
    results = []
    for index, sample in enumerate(samples):
        try:
            result = one(sample)
        except Editr1Error as exc:
            result = RewardResult.failed(VerdictStatus.ERROR, str(exc))
        results.append(result)
        if on_result is not None:
            on_result(index, result)
    return results


def values(results: Sequence[RewardResult]) -> list[float]:
    """The values, NaN where there is none: what `editr1.objectives` takes for "no score"."""
    return [math.nan if r.value is None else r.value for r in results]
