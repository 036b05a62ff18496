"""Steps of a plan side by side: each after those that it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol, TypeVar


class Planned(Protocol):
    """What has a name, and names of what it needs."""

    @property
    def name(self) -> str:
        """Of it alone."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of those that come before."""


P = TypeVar("P", bound=Planned)
R = TypeVar("R")

Execute = Callable[[Sequence[str], Path], int]
"""Runs `editr1` with arguments, writing what it says to a file; returns the exit code."""


def as_they_end(
    steps: Sequence[P], do: Callable[[P], R], jobs: int, stopping: threading.Event
) -> Iterator[tuple[P, R]]:
    """Do steps, some at a time, each after those that it needs; of those that may begin, the first in the plan does.

    Args:
        steps: the plan, each after those that it needs; needs that are not in it are not waited for.
        do: one of them, in a thread.
        jobs: how many at a time, at most.
        stopping: set if one raises, or the caller is interrupted; those that run are then waited for, no other begins.

    Yields:
        Each step with what `do` returned, as it ends.
    """
    waiting, running = list(steps), dict[Future[R], P]()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                undone = {step.name for step in (*waiting, *running.values())}
                ready = [step for step in waiting if undone.isdisjoint(step.needs)]
                for step in ready[: jobs - len(running)]:
                    waiting.remove(step)
                    running[pool.submit(do, step)] = step
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), future.result()
        except BaseException:
            stopping.set()
            raise


def no_failure_once(stopping: threading.Event, run: Execute) -> Execute:
    """The same, but a command that ends in any way but well once all is being stopped was interrupted with it."""

    def guarded(arguments: Sequence[str], log: Path) -> int:
        code = run(arguments, log)
        if code and stopping.is_set():
            raise KeyboardInterrupt
        return code

    return guarded
