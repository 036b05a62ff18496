"""Requests that come at the same time, judged in one call: engines are fastest when they see many edits at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from editr1.errors import ConfigError, Editr1Error
from editr1.types import EditVerdict, VerdictStatus

if TYPE_CHECKING:
    from editr1.verifier import Verifier

_log = logging.getLogger(__name__)

THREADS = "editr1-serve"
"""What the names of the judging threads begin with."""
_LAST_WORDS = 0.5
"""Seconds for a batch that nobody waits for to end by itself."""


class BusyError(Editr1Error, RuntimeError):
    """More edits wait than the service keeps; HTTP 429."""


class ClosedError(Editr1Error, RuntimeError):
    """The service is shutting down; HTTP 503."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    item: Mapping[str, Any]
    verdict: asyncio.Future[EditVerdict]


class Batcher:
    """Collects edits from concurrent requests and has them judged in threads, `parallel` batches at a time.

    While so many are judged, whatever arrives becomes the next batch; an idle service waits `window` seconds for
    company before it begins. Verdicts are handed to their requests as they come.

    Args:
        verifier: judges.
        max_batch: most edits in one call of the verifier.
        window: seconds that the first edit of a batch waits for others.
        max_waiting: edits that may wait; further ones are refused.
        parallel: batches that are judged at a time. A local model is fastest with one; with a judge behind a server,
            more keep one slow answer from holding up what came after its batch. Threads must be able to share the
            judge.

    Raises:
        ConfigError: if `parallel` is below 1.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        max_batch: int = 64,
        window: float = 0.01,
        max_waiting: int = 2048,
        parallel: int = 1,
    ) -> None:
        if parallel < 1:
            raise ConfigError(f"parallel must be at least 1, got {parallel}")
        self.verifier = verifier
        self.max_batch = max_batch
        self.window = window
        self.max_waiting = max_waiting
        self.parallel = parallel
        self.batches = 0
        self.counts: Counter[str] = Counter()
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._judging: set[_Waiting] = set()
        self._closed = False
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix=THREADS)
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Edits that wait or are being judged."""
        return sum(not w.verdict.done() for waiting in (self._queue, self._judging) for w in waiting)

    def start(self) -> None:
        """Begin to judge; in the event loop that will call `score`."""
        self._task = asyncio.create_task(self._work())

    async def score(self, items: Sequence[Mapping[str, Any]], *, timeout: float) -> list[EditVerdict]:
        """Have edits judged: same length, same order.

        Args:
            items: as `Verifier.score_many` takes them.
            timeout: seconds after which an edit has the status `timeout`; if its judging has not begun, it never
                does.

        Raises:
            BusyError: if too many wait.
            ClosedError: if the service is shutting down.
        """
        if self._closed:
            raise ClosedError("the service is shutting down: ask again when it is back")
        if self.pending + len(items) > max(self.max_waiting, len(items)):
            raise BusyError(f"{self.pending} edits wait already: ask again later")
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(item, loop.create_future()) for item in items]
        self._queue.extend(waiting)
        self._arrived.set()
        try:
            await asyncio.wait([w.verdict for w in waiting], timeout=timeout)
            return [w.verdict.result() if w.verdict.done() else self._too_late(w, timeout) for w in waiting]
        finally:  # of a request that was cancelled, too: nobody waits for what has not begun
            for w in waiting:
                w.verdict.cancel()
            self._drop_settled()

    def _drop_settled(self) -> None:
        """Forget edits that wait in the queue although nobody waits for them, with their pictures."""
        if any(w.verdict.done() for w in self._queue):
            self._queue = deque(w for w in self._queue if not w.verdict.done())

    async def close(self) -> None:
        """Take nothing more, and let the batches under way finish if anyone waits for them; those in the queue fail.

        Batches that nobody waits for any more are left alone: a thread cannot be stopped, and may take long.
        """
        self._closed = True
        while self._queue:
            _settle(self._queue.popleft(), self._failure(VerdictStatus.ERROR, "the service was shut down"))
        if self._task is not None:
            self._arrived.set()
            while self.pending and not self._task.done():  # requests that are cancelled take a moment to leave
                await asyncio.wait([self._task], timeout=_LAST_WORDS)
            await asyncio.wait([self._task], timeout=_LAST_WORDS)
            if not self._task.done():
                _log.warning("%d edits under way are left behind: nobody waits for them", len(self._judging))
                self._task.cancel()
                self._executor.shutdown(wait=False)
                return
        self._executor.shutdown()

    async def _work(self) -> None:
        free = asyncio.Semaphore(self.parallel)
        async with asyncio.TaskGroup() as judging:
            while self._queue or not self._closed:
                self._arrived.clear()
                if not self._queue:
                    await self._arrived.wait()
                    continue
                await free.acquire()
                if len(self._queue) < self.max_batch and not self._closed:
                    await asyncio.sleep(self.window)
                if batch := self._next_batch():
                    judging.create_task(self._judge(batch)).add_done_callback(lambda _: free.release())
                else:
                    free.release()

    def _next_batch(self) -> list[_Waiting]:
        """The next edits whose requests still wait."""
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self.max_batch:
            waiting = self._queue.popleft()
            if not waiting.verdict.done():
                batch.append(waiting)
        return batch

    async def _judge(self, batch: Sequence[_Waiting]) -> None:
        """Have a batch judged in a thread. Whatever happens there, everyone gets a verdict or a failure."""
        loop = asyncio.get_running_loop()
        self.batches += 1
        self._judging.update(batch)
        started = time.monotonic()

        def on_verdict(index: int, verdict: EditVerdict) -> None:
            loop.call_soon_threadsafe(self._count, verdict)  # first: who has a verdict finds it counted
            loop.call_soon_threadsafe(_settle, batch[index], verdict)

        items = [w.item for w in batch]
        reason = "the judge gave no verdict"
        try:
            await loop.run_in_executor(self._executor, lambda: self.verifier.score_many(items, on_verdict=on_verdict))
        except Editr1Error as exc:
            reason = f"the judge broke down: {exc}"
            _log.error("a batch of %d edits was broken off: %s", len(batch), exc)
        except Exception as exc:  # the client gets a sentence, the log the rest
            reason = f"the service failed ({type(exc).__name__}); its log says where"
            _log.exception("a batch of %d edits was broken off", len(batch))
        await asyncio.sleep(0)  # what the thread handed over last comes first
        for waiting in batch:
            if not waiting.verdict.done():
                failure = self._failure(VerdictStatus.ERROR, reason)
                _settle(waiting, failure)
                self._count(failure)
        self._judging.difference_update(batch)
        _log.info("judged %d edits in %.2f s", len(batch), time.monotonic() - started)

    def _count(self, verdict: EditVerdict) -> None:
        self.counts[verdict.status.value] += 1

    def _too_late(self, waiting: _Waiting, timeout: float) -> EditVerdict:
        failure = self._failure(VerdictStatus.TIMEOUT, f"no verdict within the service's limit of {timeout:g} s")
        _settle(waiting, failure)
        return waiting.verdict.result()

    def _failure(self, status: VerdictStatus, error: str) -> EditVerdict:
        return EditVerdict(status, judge=self.verifier.judge.name, prompt_hash=self.verifier.template.hash, error=error)


def _settle(waiting: _Waiting, verdict: EditVerdict) -> None:
    """Give an edit its verdict, with its id, unless nobody waits for it any more."""
    if not waiting.verdict.done():
        waiting.verdict.set_result(_named(verdict, waiting.item))


def _named(verdict: EditVerdict, item: Mapping[str, Any]) -> EditVerdict:
    identity = item.get("id")
    return verdict if verdict.id == identity else replace(verdict, id=None if identity is None else str(identity))
