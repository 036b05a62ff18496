"""Choose: which of several answers on one edit is kept, by rule and not by taste (section 4, step 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answered:
    """What the rule looks at in an answer.

    Attributes:
        met: for each principle, in order, what the answer says.
        average: the share of principles that it says are met, in [0, 1].
        score: its final score, in [0, 10].
    """

    met: tuple[bool, ...]
    average: float
    score: float


def accuracy(met: Sequence[bool], gold: Sequence[bool]) -> float:
    """Share of principles, in [0, 1], on which an answer agrees with the gold.

    Raises:
        ValueError: if the two differ in length, or are empty.
    """
    if len(met) != len(gold) or not gold:
        raise ValueError(f"an answer to {len(met)} principles cannot be held against {len(gold)} gold answers")
    return sum(a == b for a, b in zip(met, gold)) / len(gold)


def choose(answers: Sequence[Answered], gold: Sequence[bool]) -> int:
    """Index of the answer that agrees best with the gold.

    Highest accuracy; of equals the higher average, then the higher final score, then the smaller index.

    Raises:
        ValueError: if there are no answers, or one has not as many checks as the gold.
    """
    if not answers:
        raise ValueError("there is no answer to choose from")
    return max(
        range(len(answers)),
        key=lambda i: (accuracy(answers[i].met, gold), answers[i].average, answers[i].score, -i),
    )
