"""What a failed HTTP call means: whether asking again can help, and when to give a whole server up."""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import openai

from editr1.judges.base import ReplyStatus

# Longest wait that a server may ask for with Retry-After, in seconds; beyond it the call fails at once.
LONGEST_WAIT = 120.0

_RETRIED = frozenset({408, 409, 425, 429})
# A gateway's way to say that nobody is behind it.
_ABSENT = frozenset({502, 503, 504})
# Words by which services mark a request that their content filter stopped, in error codes or messages, lower case.
_POLICY = (
    "content_policy",
    "content policy",
    "content_filter",
    "content management policy",
    "contentfilter",
    "responsibleai",
    "moderation",
    "safety system",
    "sensitivecontent",
    "sensitive content",
    "datainspection",
    "data_inspection",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt failed.

    Attributes:
        status: of the reply, if no later attempt does better.
        message: one sentence.
        retry: whether asking again can help.
        retry_after: seconds that the server asked to wait.
        absent: nobody answered; many of these in a row mean that the server is gone.
        busy: the server is there and asks for patience (429).
        unreachable: no connection was made at all.
        hopeless: no request can succeed with this address, key and model.
    """

    status: ReplyStatus
    message: str
    retry: bool = False
    retry_after: float | None = None
    absent: bool = False
    busy: bool = False
    unreachable: bool = False
    hopeless: bool = False


def read_failure(exc: Exception) -> Failure:
    """Tell what an exception of the SDK, or a time-out of ours, means."""
    if isinstance(exc, TimeoutError | openai.APITimeoutError):
        if type(exc.__cause__).__name__ == "ConnectTimeout":
            return _no_connection(exc)
        return Failure(ReplyStatus.TIMEOUT, "no answer in time", retry=True, absent=True)
    if isinstance(exc, openai.APIStatusError):
        return _read_status(exc)
    if isinstance(exc, openai.APIConnectionError):
        return _no_connection(exc)
    detail = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if isinstance(exc, openai.APIError | ValueError):  # not JSON, cut short, or of the wrong shape
        return Failure(ReplyStatus.ERROR, f"the server's answer cannot be read ({shorten(detail)})", retry=True)
    return Failure(ReplyStatus.ERROR, shorten(detail))


def _no_connection(exc: BaseException) -> Failure:
    # the innermost cause names what the SDK calls only "Connection error."
    cause: BaseException = exc
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    detail = shorten(str(cause) or type(cause).__name__)
    # A connection that was cut in the middle of an answer was made: only a refused one is a wrong address.
    cut = "Protocol" in type(exc.__cause__).__name__ or "Read" in type(exc.__cause__).__name__
    message = f"the connection broke off ({detail})" if cut else f"no connection ({detail})"
    return Failure(ReplyStatus.ERROR, message, retry=True, absent=True, unreachable=not cut)


def _read_status(exc: openai.APIStatusError) -> Failure:
    code = exc.status_code
    message = f"HTTP {code}: {shorten(server_message(exc))}"
    marks = f"{exc.code} {exc.type} {exc.message}".lower()
    if code in (400, 403, 422, 451) and any(word in marks for word in _POLICY):
        return Failure(ReplyStatus.REFUSED, message)
    if code in (401, 404):
        return Failure(ReplyStatus.ERROR, message, hopeless=True)
    if code in (402, 403) or "insufficient_quota" in marks:
        return Failure(ReplyStatus.ERROR, message)
    if code in _RETRIED or code >= 500:
        wait = retry_after(exc.response.headers)
        if wait is not None and wait > LONGEST_WAIT:
            return Failure(ReplyStatus.ERROR, f"{message} (asks to wait {wait:.0f} s)")
        return Failure(
            ReplyStatus.ERROR, message, retry=True, retry_after=wait, absent=code in _ABSENT, busy=code == 429
        )
    return Failure(ReplyStatus.ERROR, message)


def server_message(exc: openai.APIStatusError) -> str:
    """What the server itself said, without the SDK's words around it."""
    body = exc.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        said = inner.get("message") if isinstance(inner, Mapping) else inner
        if isinstance(said, str) and said.strip():
            return said
    return body if isinstance(body, str) and body.strip() else exc.message


def shorten(text: str, limit: int = 300) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the Retry-After header, given in seconds or as a date; None if absent or unreadable."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def backoff(attempt: int, base: float, longest: float = 8.0) -> float:
    """Seconds before attempt `attempt + 2`: doubling from `base`, with jitter so that callers do not return at once."""
    return min(base * 2.0**attempt, longest) * random.uniform(0.5, 1.0)


class Breaker:
    """Of one batch of requests: opens when `threshold` in a row got no answer after all their attempts.

    Once open, requests that wait for their next attempt stop waiting, and the rest are not sent. The next batch
    starts on `trial`: one attempt each, and the first failure opens its breaker, until somebody answers.
    """

    def __init__(self, threshold: int, *, trial: bool = False) -> None:
        self.threshold = threshold
        self.reason: str | None = None
        self.trial = trial
        self._row = 0
        self._heard = time.monotonic()
        self._opened = asyncio.Event()

    def next(self) -> Breaker:
        """The one for another batch, which may run beside this one, in a thread and an event loop of its own."""
        return Breaker(self.threshold, trial=self.open)

    @property
    def open(self) -> bool:
        """Whether the server has been given up for this batch."""
        return self.reason is not None

    def answered(self) -> None:
        """Somebody is there."""
        self._row = 0
        self.trial = False
        self._heard = time.monotonic()

    def busy(self, message: str, patience: float) -> None:
        """The server asked for patience; after so many seconds in which nobody of the batch got more, give up."""
        if time.monotonic() - self._heard >= patience:
            self._open(f"{message}, for {patience:g} s")

    def absent(self, message: str) -> None:
        """A request got no answer, and will not be sent again."""
        self._row += 1
        if self.trial or self._row >= self.threshold:
            self._open(message)

    async def wait(self, seconds: float) -> None:
        """Sleep, or less if the server is given up meanwhile."""
        try:
            await asyncio.wait_for(self._opened.wait(), seconds)
        except TimeoutError:
            return

    def _open(self, message: str) -> None:
        self.reason = self.reason or message
        self._opened.set()
