"""A verifier behind `editr1 serve`, or whatever else answers `POST /v1/score`, as a reward."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import openai
from pydantic import ValidationError

from editr1.errors import ConfigError, ImageError, RewardError
from editr1.judges.attempts import Breaker, Failure, backoff, read_failure
from editr1.judges.background import run_handing_over
from editr1.judges.base import ReplyStatus
from editr1.rewards.base import EditSample, OnResult, RewardResult
from editr1.rewards.verifier import Scale, check_scale, from_verdict
from editr1.rewards.wire import MAX_ITEMS, WireVerdict, encode_image
from editr1.types import EditVerdict, ImageLike, VerdictStatus

Emit: TypeAlias = Callable[[tuple[int, RewardResult]], None]

_ENVELOPE = 200
"""Bytes that an item takes beside its texts, and a request beside its items, roughly."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A sample ready to be sent: its place, the id that has to come back, its JSON and the bytes that this takes."""

    index: int
    id: str
    body: dict[str, Any]
    size: int


class _TooLargeError(Exception):
    """The service turned a request down for its size."""


class HttpReward:
    """Asks a scoring service, several requests at a time.

    What is worth asking again is asked again with doubling waits: 408, 409, 5xx, broken connections, answers that are
    not what was asked for, and time-outs (`timeout_retries` times). A 429 is waited out, by its Retry-After where it
    has one, as long as some request gets an answer within `patience` seconds. Verdicts that came
    back are kept when others of their request were unreadable. A request that the service finds too large is halved.
    When `give_up_after` requests in a row got no answer at all, the rest of the batch fails at once, and the next
    batch starts with a single try. Threads may share a reward.

    Args:
        url: of the service, e.g. "http://127.0.0.1:8700".
        token_env: name of the environment variable that holds the service's token, if it wants one.
        scale: "unit" for values in [0, 1], "score" for [0, 10].
        name: of the reward.
        concurrency: most requests under way at a time.
        items_per_request: few keep what a broken connection can cost small; the service batches requests itself.
        max_request_bytes: a request is not made larger than this, unless a single item is.
        timeout: seconds for one attempt.
        max_retries: most further attempts after the first; those that a 429 turned away do not count.
        patience: seconds of nothing but 429 after which a batch is given up.
        timeout_retries: most further attempts after time-outs, which are costly: each may occupy the service.
        backoff_seconds: wait before the second attempt; it doubles up to 8 seconds, and is jittered.
        give_up_after: requests in a row without an answer after which the service counts as gone.

    Raises:
        ConfigError: if an option is out of range, or the token's variable is not set.
    """

    def __init__(
        self,
        url: str,
        *,
        token_env: str | None = None,
        scale: Scale = "unit",
        name: str = "http",
        concurrency: int = 8,
        items_per_request: int = 8,
        max_request_bytes: int = 48 * 2**20,
        timeout: float = 300.0,
        max_retries: int = 5,
        patience: float = 300.0,
        timeout_retries: int = 1,
        backoff_seconds: float = 0.5,
        give_up_after: int = 5,
    ) -> None:
        if concurrency < 1 or give_up_after < 1 or timeout <= 0 or max_retries < 0 or max_request_bytes < 1:
            raise ConfigError(
                f"concurrency, give_up_after and max_request_bytes must be at least 1, timeout positive and "
                f"max_retries at least 0, got {concurrency}, {give_up_after}, {max_request_bytes}, {timeout} and "
                f"{max_retries}"
            )
        if not 1 <= items_per_request <= MAX_ITEMS:
            raise ConfigError(f"items_per_request must lie in 1-{MAX_ITEMS}, got {items_per_request}")
        self.base_url = _base_url(url)
        self.scale = check_scale(scale)
        self.name = name
        self.concurrency = concurrency
        self.items_per_request = items_per_request
        self.max_request_bytes = max_request_bytes
        self.timeout = timeout
        self.max_retries = max_retries
        self.patience = patience
        self.timeout_retries = timeout_retries
        self.backoff_seconds = backoff_seconds
        self._token = _find_token(token_env)
        self._breaker = Breaker(give_up_after)
        self._ever_answered = False

    def __repr__(self) -> str:
        return f"HttpReward({self.base_url!r})"

    def score(self, samples: Sequence[EditSample], *, on_result: OnResult | None = None) -> list[RewardResult]:
        """Reward all samples; works where an event loop runs already, too.

        Raises:
            RewardError: if this client never got an answer, and cannot: nobody is there, or the token or the address
                is wrong. A service that was there and is gone makes failures.
        """
        if not samples:
            return []
        results: dict[int, RewardResult] = {}

        def take(item: tuple[int, RewardResult]) -> None:
            results[item[0]] = item[1]
            if on_result is not None:
                on_result(*item)

        run_handing_over(lambda emit: self._score_all(samples, emit), take)
        return [results[index] for index in range(len(samples))]

    async def _score_all(self, samples: Sequence[EditSample], emit: Emit) -> None:
        """Let workers take requests off one queue; stop them all on a `RewardError`."""
        breaker = self._breaker = self._breaker.next()
        entries = await _pack(samples, emit)
        queue = deque(split(entries, self.items_per_request, self.max_request_bytes))
        unreachable: list[str] = []

        async def work(client: openai.AsyncOpenAI) -> None:
            while queue:
                failure = await self._deliver(client, queue.popleft(), queue, emit, breaker)
                if failure is not None and not self._ever_answered:
                    if failure.hopeless:
                        raise RewardError(self._advise(failure.message))
                    if failure.unreachable:
                        unreachable.append(failure.message)

        limits = openai.Timeout(self.timeout, connect=min(10.0, self.timeout))
        async with openai.AsyncOpenAI(
            api_key=self._token, base_url=self.base_url, timeout=limits, max_retries=0
        ) as client:
            workers = [asyncio.create_task(work(client)) for _ in range(min(self.concurrency, len(queue)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if unreachable and not self._ever_answered:
            raise RewardError(self._advise(unreachable[0]))

    async def _deliver(
        self,
        client: openai.AsyncOpenAI,
        parcel: list[_Entry],
        queue: deque[list[_Entry]],
        emit: Emit,
        breaker: Breaker,
    ) -> Failure | None:
        """Send until every entry has a result, or the attempts are used up; the failure, if it came to that."""
        if breaker.open:
            reason = f"not sent, because {self.base_url} stopped answering ({breaker.reason})"
            _fail(parcel, VerdictStatus.ERROR, reason, emit)
            return None
        waiting, timeouts, counted = parcel, 0, 0
        for attempt in itertools.count():
            try:
                outcome = await self._attempt(client, waiting)
            except _TooLargeError as exc:
                self._answered(breaker)
                if len(waiting) == 1:
                    _fail(waiting, VerdictStatus.ERROR, f"{self.base_url}: {exc}", emit)
                else:
                    queue.extendleft([waiting[len(waiting) // 2 :], waiting[: len(waiting) // 2]])
                return None
            if not isinstance(outcome, Failure):
                self._answered(breaker)
                waiting = _take(waiting, outcome, self.scale, emit)
                if not waiting:
                    return None
                outcome = Failure(ReplyStatus.ERROR, "the service's verdict cannot be read", retry=True)
            timeouts += outcome.status is ReplyStatus.TIMEOUT
            counted += not outcome.busy
            if outcome.busy:
                breaker.busy(outcome.message, self.patience)
            budget = 0 if breaker.trial else self.max_retries
            if outcome.retry and (outcome.busy or counted <= budget) and timeouts <= self.timeout_retries:
                await breaker.wait(max(backoff(attempt, self.backoff_seconds), outcome.retry_after or 0.0))
                if not breaker.open:
                    continue
            if outcome.absent:
                breaker.absent(outcome.message)
            elif not outcome.busy:
                breaker.answered()
            status = VerdictStatus.TIMEOUT if outcome.status is ReplyStatus.TIMEOUT else VerdictStatus.ERROR
            tries = f" after {attempt + 1} attempts" if attempt else ""
            _fail(waiting, status, f"{self.base_url}: {outcome.message}{tries}", emit)
            return outcome
        raise AssertionError("unreachable")

    def _answered(self, breaker: Breaker) -> None:
        self._ever_answered = True
        breaker.answered()

    async def _attempt(self, client: openai.AsyncOpenAI, entries: Sequence[_Entry]) -> list[Any] | Failure:
        """Send once. Returns as many unread verdicts as there were entries, or why there are none."""
        body = {"items": [entry.body for entry in entries]}
        try:
            async with asyncio.timeout(self.timeout):  # the SDK's limit is for each read, not for the whole
                answer: Any = await client.post("/score", cast_to=object, body=body)
        except openai.APIStatusError as exc:
            if exc.status_code == 413:
                raise _TooLargeError(read_failure(exc).message) from None
            return read_failure(exc)
        except Exception as exc:  # whatever a broken service makes the SDK raise is this one request's failure
            return read_failure(exc)
        verdicts = answer.get("verdicts") if isinstance(answer, dict) else None
        if not isinstance(verdicts, list) or len(verdicts) != len(entries):
            got = f"{len(verdicts)} verdicts" if isinstance(verdicts, list) else "no verdicts"
            return Failure(ReplyStatus.ERROR, f"the answer holds {got} for {len(entries)} items", retry=True)
        return verdicts

    def _advise(self, message: str) -> str:
        advice = "check the address and that the service is running (editr1 serve)"
        if message.startswith("HTTP 401"):
            advice = "check the token and the name of the variable that holds it (token_env)"
        return f"the reward service {self.base_url} cannot answer ({message}): {advice}"


def split(entries: Iterable[_Entry], items: int, size: int) -> Iterator[list[_Entry]]:
    """Entries as requests of at most so many items and bytes, in order; an entry over the limit goes alone."""
    parcel: list[_Entry] = []
    total = 0
    for entry in entries:
        if parcel and (len(parcel) == items or total + entry.size > size):
            yield parcel
            parcel, total = [], 0
        parcel.append(entry)
        total += entry.size
    if parcel:
        yield parcel


async def _pack(samples: Sequence[EditSample], emit: Emit) -> list[_Entry]:
    """Samples as JSON, with pictures encoded off the event loop; one that cannot be encoded fails here."""
    encoded: dict[str | int, asyncio.Future[str]] = {}

    async def encode(ref: ImageLike) -> str:
        key = ref if isinstance(ref, str) else id(ref)  # the samples hold on to their pictures: ids stay their own
        if key not in encoded:
            encoded[key] = asyncio.ensure_future(asyncio.to_thread(encode_image, ref))
        return await encoded[key]

    async def pack(index: int, sample: EditSample) -> _Entry | None:
        task = sample.task
        try:
            source, edited = await encode(task.source), await encode(sample.edited)
        except ImageError as exc:
            emit((index, RewardResult.failed(VerdictStatus.ERROR, str(exc))))
            return None
        identity = f"{index}:{sample.name}"[:200]  # two samples may have one name
        instruction = task.instruction.encode("utf-8", "replace").decode("utf-8")
        body = {"id": identity, "source": source, "edited": edited, "instruction": instruction}
        size = len(source) + len(edited) + 6 * len(instruction) + _ENVELOPE
        if task.principles is not None:
            body["principles"] = [p.to_dict() for p in task.principles]  # type: ignore[assignment]
            size += sum(6 * len(p.question) + _ENVELOPE for p in task.principles)
        return _Entry(index, identity, body, size)

    packed = await asyncio.gather(*(pack(i, s) for i, s in enumerate(samples)))
    return [entry for entry in packed if entry is not None]


def _take(entries: Sequence[_Entry], verdicts: Sequence[Any], scale: Scale, emit: Emit) -> list[_Entry]:
    """Hand over the verdicts that can be read; returns the entries whose verdict cannot."""
    left = []
    for entry, data in zip(entries, verdicts, strict=True):
        verdict = _read(data, entry.id)
        if verdict is None:
            left.append(entry)
        else:
            emit((entry.index, from_verdict(verdict, scale)))
    return left


def _read(data: Any, identity: str) -> EditVerdict | None:
    """A verdict, if it is a whole one and belongs to this item: a service that mixes up its answers is found out."""
    try:
        verdict = WireVerdict.model_validate(data).to_verdict()
    except (ValidationError, ValueError, TypeError, KeyError):
        return None
    return verdict if verdict.id == identity else None


def _fail(entries: Iterable[_Entry], status: VerdictStatus, reason: str, emit: Emit) -> None:
    for entry in entries:
        emit((entry.index, RewardResult.failed(status, reason)))


def _base_url(url: str) -> str:
    """The address up to and including `/v1`.

    Raises:
        ConfigError: if it is no address.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} is no address of a service: write it like http://127.0.0.1:8700")
    return url.rstrip("/").removesuffix("/score").removesuffix("/v1") + "/v1"


def _find_token(variable: str | None) -> str:
    if variable is None:
        return "none"  # the SDK wants some text
    token = os.environ.get(variable)
    if not token:
        raise ConfigError(f"no token for the reward service: set the environment variable {variable}")
    return token
