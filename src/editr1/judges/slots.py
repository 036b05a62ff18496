"""A bound on what is under way at a time that holds across event loops: threads share a judge, not a loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """Like `asyncio.Semaphore`, for tasks of any number of event loops; who waits longest comes first.

    Args:
        limit: most holders at a time; at least 1.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot for as long as the block runs."""
        await self._acquire()
        try:
            yield
        finally:
            self._release()

    async def _acquire(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                handed_over = turn not in self._waiting
                if not handed_over:
                    self._waiting.remove(turn)
            if handed_over:  # the slot was on its way here
                self._release()
            raise

    def _release(self) -> None:
        """Hand the slot to who waits longest, or put it back."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                turn = self._waiting.popleft()
            try:
                turn.get_loop().call_soon_threadsafe(_wake, turn)
            except RuntimeError:  # that loop is closed
                continue
            return


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # one that was cancelled gives the slot back itself
        turn.set_result(None)
