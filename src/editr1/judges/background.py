"""Run asynchronous work from plain code, with its results handed over in the calling thread as they come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def run_handing_over(work: Callable[[Callable[[T], None]], Awaitable[None]], take: Callable[[T], None]) -> None:
    """Run `work(emit)` in an event loop of its own, and call `take` here with everything that it emits.

    The loop runs in a thread, so that this works where the caller runs a loop already (a notebook, a server). If
    `take` raises, or the user interrupts, the work is cancelled and its connections are closed before this returns.
    """
    arrivals: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    loop = asyncio.new_event_loop()
    task: asyncio.Task[None] | None = None
    failure: BaseException | None = None

    async def main() -> None:
        nonlocal task
        task = asyncio.current_task()
        await work(lambda item: arrivals.put(lambda: take(item)))

    def body() -> None:
        nonlocal failure
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())
        except BaseException as exc:  # raised again in the caller's thread
            failure = exc
        finally:
            arrivals.put(None)

    thread = threading.Thread(target=body, name="editr1-judge", daemon=True)
    thread.start()
    try:
        while (hand_over := arrivals.get()) is not None:
            hand_over()
    except BaseException:
        # `task` is set by the time that the loop runs callbacks; a loop that is closed has nothing left to cancel
        if thread.is_alive() and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: task is not None and task.cancel())
        raise
    finally:
        thread.join()
    if failure is not None:
        raise failure
