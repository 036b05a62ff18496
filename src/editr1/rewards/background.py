"""Scoring beside sampling: batches are rewarded in a thread while the caller makes the next ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from editr1.errors import ConfigError, Editr1Error
from editr1.judges.attempts import backoff
from editr1.rewards.base import EditSample, OnResult, Reward, RewardResult
from editr1.rewards.guard import FailureGuard
from editr1.types import VerdictStatus

_log = logging.getLogger(__name__)

WORTH_RETRYING = frozenset({VerdictStatus.TIMEOUT, VerdictStatus.ERROR, VerdictStatus.UNPARSEABLE})
"""A refusal is an answer; asking again would only be refused again."""


class Pending:
    """A batch that is being rewarded."""

    def __init__(self, future: Future[list[RewardResult]], guard: FailureGuard | None) -> None:
        self._future = future
        self._guard = guard

    def done(self) -> bool:
        """Whether `result` would return at once."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> list[RewardResult]:
        """Wait for the results, in the order of the batch.

        The guard looks at them here, once, in the caller's thread: what it decides depends on the order in which
        batches are collected and not on which of them was faster.

        Raises:
            TimeoutError: if `timeout` seconds were not enough; the batch goes on.
            RewardError: if too many rewards failed; `finished` has the results all the same.
        """
        results = self._future.result(timeout)
        if self._guard is not None:
            guard, self._guard = self._guard, None
            guard.record(results)
        return results

    @property
    def finished(self) -> list[RewardResult]:
        """The results without the guard's opinion; waits for them."""
        return self._future.result()


class BackgroundScorer:
    """Rewards batches in the background, asks failed samples again, and stops a run that has lost its reward.

    Use it as a context manager. Sampling and scoring then overlap:

        pending = scorer.submit(first)
        for group in groups:                       # sampled while `pending` is being rewarded
            upcoming = scorer.submit(group)
            train(pending.result())
            pending = upcoming

    Args:
        reward: who rewards.
        guard: what decides when there were too many failures; None never stops.
        retries: how often a sample that failed is asked for again, by itself; refusals never are.
        backoff_seconds: wait before the first retry; it doubles up to 8 seconds, and is jittered.
        workers: batches under way at once. More than one needs a reward that takes calls from several threads, as
            all of editr1's do.
    """

    def __init__(
        self,
        reward: Reward,
        *,
        guard: FailureGuard | None = None,
        retries: int = 1,
        backoff_seconds: float = 0.5,
        workers: int = 1,
    ) -> None:
        if retries < 0 or workers < 1 or backoff_seconds < 0:
            raise ConfigError(
                f"retries and backoff_seconds must not be negative and workers be at least 1, got {retries}, "
                f"{backoff_seconds} and {workers}"
            )
        self.reward = reward
        self.guard = guard
        self.retries = retries
        self.backoff_seconds = backoff_seconds
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="editr1-reward")

    def submit(self, samples: Sequence[EditSample]) -> Pending:
        """Start on a batch and return at once."""
        future = self._executor.submit(self._score, tuple(samples))
        return Pending(future, self.guard)

    def score_batch(self, samples: Sequence[EditSample]) -> list[RewardResult]:
        """Reward a batch and wait for it: same length, same order.

        Raises:
            RewardError: if too many rewards failed.
        """
        return self.submit(samples).result()

    def close(self) -> None:
        """Drop batches that have not begun, and wait for those under way; safe to call twice."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> BackgroundScorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _score(self, samples: Sequence[EditSample]) -> list[RewardResult]:
        return score_with_retries(self.reward, samples, retries=self.retries, backoff_seconds=self.backoff_seconds)


def score_with_retries(
    reward: Reward,
    samples: Sequence[EditSample],
    *,
    retries: int = 1,
    backoff_seconds: float = 0.5,
    on_result: OnResult | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[RewardResult]:
    """Reward samples, and ask again for those that failed: same length, same order.

    Args:
        reward: who rewards.
        samples: what is rewarded.
        retries: how often a failed sample is asked for again.
        backoff_seconds: wait before the first retry, doubled for each further one.
        on_result: called once a sample, when its result is final.
        sleep: waits; for tests.
    """
    results: dict[int, RewardResult] = {}
    failed = list(range(len(samples)))
    for attempt in range(retries + 1):
        if attempt and failed:
            sleep(backoff(attempt - 1, backoff_seconds))
        failed = _once(reward, samples, failed, results, last=attempt == retries, on_result=on_result)
    return [results[index] for index in range(len(samples))]


def _once(
    reward: Reward,
    samples: Sequence[EditSample],
    indices: Sequence[int],
    results: dict[int, RewardResult],
    *,
    last: bool,
    on_result: OnResult | None,
) -> list[int]:
    """Ask once for each index; returns those to be asked for again."""
    if not indices:
        return []
    again: list[int] = []
    try:
        found = reward.score([samples[i] for i in indices])
    except Editr1Error as exc:
        if len(results) < len(samples):
            raise
        _log.warning("rewards that had failed could not be asked for again: %s", exc)
        found, last = [results[i] for i in indices], True  # the first failures stand; what succeeded is kept
    for index, result in zip(indices, found, strict=True):
        results[index] = result
        if result.status in WORTH_RETRYING and not last:
            again.append(index)
        elif on_result is not None:
            on_result(index, result)
    return again
