"""Ask a judge until the answer can be read, a bounded number of times.

Scoring and decomposing share this loop. Only answers without usable content are asked for afresh; refusals,
time-outs and errors are final here, because judges retry what is worth retrying themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from editr1.errors import DecomposeError, JudgeError, VerdictParseError
from editr1.judges.base import ChatReply, ChatRequest, Judge, Message, ReplyStatus, Sampling
from editr1.types import Usage, VerdictStatus

T = TypeVar("T")

RETRY_TEMPERATURE = 0.3
"""At temperature 0 a judge would only repeat the answer that could not be read: fresh tries are drawn at this."""

_FINAL = {
    ReplyStatus.REFUSED: VerdictStatus.REFUSED,
    ReplyStatus.TIMEOUT: VerdictStatus.TIMEOUT,
    ReplyStatus.ERROR: VerdictStatus.ERROR,
}


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """A chat to be answered, and how its answer is read.

    Attributes:
        read: makes something of a reply that is ok, empty or truncated; raises `VerdictParseError` or
            `DecomposeError` if it cannot.
        fresh: of the first try; each further try adds `stride`.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    read: Callable[[ChatReply], T]
    fresh: int = 0
    stride: int = 1

    def request(self, attempt: int) -> ChatRequest:
        """The chat as it is sent at an attempt, counted from 0."""
        sampling = self.sampling
        if attempt and sampling.temperature == 0:
            sampling = replace(sampling, temperature=RETRY_TEMPERATURE)
        if sampling.temperature == 0:
            sampling = replace(sampling, seed=None)  # of no effect, and not every service takes one
        return ChatRequest(self.messages, sampling, self.fresh + attempt * self.stride)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of an `Ask`; `value` is None unless the status is ok. Usage and seconds cover all tries."""

    status: VerdictStatus
    value: T | None = None
    text: str = ""
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0


class _Asking(Generic[T]):
    """The state of one `ask`: what is settled, and what each open ask has used up so far."""

    def __init__(self, asks: Sequence[Ask[T]], on_outcome: Callable[[int, Outcome[T]], None]) -> None:
        self.asks = asks
        self.on_outcome = on_outcome
        self.outcomes: dict[int, Outcome[T]] = {}
        self.usage = [Usage()] * len(asks)
        self.seconds = [0.0] * len(asks)

    def take(self, index: int, reply: ChatReply, tries_left: int, tries: int) -> bool:
        """Take a reply; False if the answer is to be asked for afresh."""
        self.usage[index] += reply.usage
        self.seconds[index] += reply.seconds
        value: T | None = None
        error: str | None = None
        if reply.status in _FINAL:
            status = _FINAL[reply.status]
            error = reply.error or f"the judge's reply: {reply.status.value}"
        else:
            try:
                value, status = self.asks[index].read(reply), VerdictStatus.OK
            except (VerdictParseError, DecomposeError) as exc:
                if tries_left:
                    return False
                status = VerdictStatus.UNPARSEABLE
                error = f"no whole answer in {tries} {'try' if tries == 1 else 'tries'}, the last: {exc}"
        outcome = Outcome(status, value, reply.text, error, self.usage[index], self.seconds[index])
        self.outcomes[index] = outcome
        self.on_outcome(index, outcome)
        return True

    def round(self, judge: Judge, indices: Sequence[int], attempt: int, max_tries: int) -> list[int]:
        """Ask once for each index; returns those to be asked for afresh."""
        again: set[int] = set()
        seen: set[int] = set()

        def on_reply(position: int, reply: ChatReply) -> None:
            if position in seen:
                return
            seen.add(position)
            if not self.take(indices[position], reply, max_tries - attempt - 1, attempt + 1):
                again.add(indices[position])

        replies = judge.chat([self.asks[i].request(attempt) for i in indices], on_reply=on_reply)
        if len(replies) != len(indices):
            raise JudgeError(f"{judge.name} gave {len(replies)} replies to {len(indices)} requests")
        for position, reply in enumerate(replies):  # for judges that do not stream
            on_reply(position, reply)
        return [i for i in indices if i in again]


def ask(
    judge: Judge,
    asks: Sequence[Ask[T]],
    *,
    max_tries: int,
    on_outcome: Callable[[int, Outcome[T]], None] = lambda index, outcome: None,
) -> list[Outcome[T]]:
    """Ask all, and those whose answers cannot be read again, up to `max_tries` times.

    Args:
        judge: who is asked; all open asks go to it in one call, in order.
        asks: what is asked.
        max_tries: how often at most, at least 1.
        on_outcome: called as `on_outcome(index, outcome)` as soon as an outcome is settled.

    Returns:
        One outcome each, in order.

    Raises:
        JudgeError: if the judge as a whole cannot work.
    """
    state = _Asking(asks, on_outcome)
    open_asks = list(range(len(asks)))
    for attempt in range(max_tries):
        if not open_asks:
            break
        open_asks = state.round(judge, open_asks, attempt, max_tries)
    return [state.outcomes[i] for i in range(len(asks))]
