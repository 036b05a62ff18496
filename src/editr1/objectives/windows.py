"""Which steps of the sampler are stochastic and trained in an iteration; the others are those of the ODE.

A window is a tuple of step indices, in order. The last step is never in one: its noise would stay in the picture.
It is a function of the iteration and a seed, so every sample of a group, every process and every resumed run has the
same one.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

Window: TypeAlias = tuple[int, ...]


def all_steps(steps: int) -> Window:
    """Every step but the last (Flow-GRPO).

    Args:
        steps: of the sampler, at least 2.

    Raises:
        ValueError: if the sampler has no step that could be stochastic.
    """
    if steps < 2:
        raise ValueError(f"a sampler of {steps} steps has no stochastic one, since the last is not: take 2 or more")
    return tuple(range(steps - 1))


def fixed_window(steps: int, size: int, start: int = 0) -> Window:
    """The same `size` steps from `start` on, always.

    Raises:
        ValueError: if they do not lie within all but the last step.
    """
    available = len(all_steps(steps))
    if not (size >= 1 and start >= 0 and start + size <= available):
        raise ValueError(
            f"a window of {size} from step {start} on does not fit: the first {available} of {steps} steps can be used"
        )
    return tuple(range(start, start + size))


def sliding_window(steps: int, size: int, iteration: int, every: int = 1, stride: int = 1) -> Window:
    """A window that goes from the noisy end to the other and starts over (MixGRPO).

    The last position before it starts over is the last possible one, also where the stride does not lead there.

    Args:
        steps: of the sampler.
        size: steps in the window.
        iteration: from 0.
        every: iterations between two moves.
        stride: steps of a move.

    Raises:
        ValueError: if the window does not fit, or cannot move.
    """
    if every < 1 or stride < 1 or iteration < 0:
        raise ValueError(f"every {every}, stride {stride}, iteration {iteration}: the first two are 1 or more")
    last = len(all_steps(steps)) - size
    positions = max(-(-last // stride) + 1, 1)
    return fixed_window(steps, size, min(iteration // every % positions * stride, max(last, 0)))


def random_window(steps: int, size: int, iteration: int, seed: int, low: int = 0, high: int | None = None) -> Window:
    """A window drawn anew for each iteration (Flow-GRPO-Fast).

    Args:
        steps: of the sampler.
        size: steps in the window.
        iteration: from 0.
        seed: of the run; the draw depends on nothing but (seed, iteration) and the range.
        low: first step that may be in the window.
        high: end (exclusive) of the steps that may; all but the last step if None.

    Raises:
        ValueError: if the window does not fit the range.
    """
    available = len(all_steps(steps))
    high = available if high is None else high
    latest = high - size
    if not 0 <= low <= latest or high > available:
        raise ValueError(
            f"a window of {size} does not fit into steps {low} to {high - 1}, or they are not all among the first "
            f"{available} of {steps}: make it smaller, or set another range"
        )
    return fixed_window(steps, size, Random(f"window/{seed}/{iteration}").randint(low, latest))


WINDOWS: dict[str, Callable[..., Window]] = {
    "all": all_steps,
    "fixed": fixed_window,
    "sliding": sliding_window,
    "random": random_window,
}
