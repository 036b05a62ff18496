"""Ask a judge about many items at once, each by several questions, and make a judgement of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from editr1.errors import ImageError
from editr1.evaluation.judgements import Judgement, OnJudgement
from editr1.judges.base import Judge
from editr1.types import VerdictStatus
from editr1.verifier.asking import Ask, Outcome, ask

T = TypeVar("T")


class Named(Protocol):
    """What is judged: an edit, or a pair of them."""

    @property
    def id(self) -> str:
        """Unique among what is judged together."""
        ...


ItemT = TypeVar("ItemT", bound=Named)


@dataclass(frozen=True, slots=True)
class Questions(Generic[T]):
    """What a judge is asked about an item.

    Attributes:
        asks: at least one.
        judge: makes the judgement of their outcomes, which come in the order of the asks.
    """

    asks: Sequence[Ask[T]]
    judge: Callable[[Sequence[Outcome[T]]], Judgement]


def judge_many(
    judge: Judge,
    items: Sequence[ItemT],
    questions: Callable[[ItemT], Questions[T]],
    *,
    max_tries: int,
    on_judgement: OnJudgement,
) -> None:
    """Ask about all items; an item whose pictures cannot be read is an error, and the rest goes on.

    Args:
        judge: answers the chats.
        items: that are judged.
        questions: about an item; may raise `ImageError`.
        max_tries: how often an answer is asked for that cannot be read.
        on_judgement: told each item's judgement, with its index, as soon as its last answer is there.

    Raises:
        JudgeError: if the judge as a whole cannot work.
    """
    asks: list[Ask[T]] = []
    owners: list[tuple[int, int]] = []  # of each ask: the item's index, and which of its questions it is
    asked: dict[int, Questions[T]] = {}
    for index, item in enumerate(items):
        try:
            asked[index] = questions(item)
        except ImageError as exc:
            on_judgement(index, Judgement(item.id, VerdictStatus.ERROR, error=str(exc), final=True))
            continue
        asks += asked[index].asks
        owners += [(index, number) for number in range(len(asked[index].asks))]
    waiting: dict[int, dict[int, Outcome[T]]] = {index: {} for index in asked}

    def on_outcome(position: int, outcome: Outcome[T]) -> None:
        index, number = owners[position]
        outcomes = waiting[index]
        outcomes[number] = outcome
        if len(outcomes) == len(asked[index].asks):
            on_judgement(index, asked[index].judge([outcomes[n] for n in sorted(outcomes)]))

    ask(judge, asks, max_tries=max_tries, on_outcome=on_outcome)
