"""When too many rewards fail, a run stops: a model trained on what is left over learns what the judge can read."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from editr1.errors import ConfigError, RewardError
from editr1.rewards.base import RewardResult


class FailureGuard:
    """Counts failures by kind, and raises when too large a share of the last samples failed.

    Args:
        max_share: of the window, in [0, 1]; 1 never raises.
        window: samples that are looked back on. Nothing is raised before so many were seen, so that one bad sample
            at the start is not a share of 1.

    Raises:
        ConfigError: if either is out of range.
    """

    def __init__(self, max_share: float = 0.25, window: int = 64) -> None:
        if not 0 <= max_share <= 1 or window < 1:
            raise ConfigError(f"max_share must lie in [0, 1] and window be at least 1, got {max_share} and {window}")
        self.max_share = max_share
        self.window = window
        self.seen = 0
        self.counts: Counter[str] = Counter()
        self._recent: deque[str] = deque(maxlen=window)
        self._last_error = ""

    @property
    def share(self) -> float:
        """Share of failures among the last `window` samples, in [0, 1]; 0 before the first."""
        failed = sum(status != "ok" for status in self._recent)
        return failed / len(self._recent) if self._recent else 0.0

    def record(self, results: Sequence[RewardResult]) -> None:
        """Take note of results, all of them, and then judge.

        Raises:
            RewardError: if the share of failures is above `max_share`; the message has counts and the last reason.
        """
        for result in results:
            self.seen += 1
            self._recent.append(result.status.value)
            if not result.ok:
                self.counts[result.status.value] += 1
                self._last_error = result.error or self._last_error
        if len(self._recent) == self.window and self.share > self.max_share:
            kinds = Counter(status for status in self._recent if status != "ok")
            raise RewardError(
                f"{kinds.total()} of the last {self.window} rewards failed ({_listed(kinds)}), more than the allowed "
                f"share of {self.max_share:g}; the last reason: {self._last_error or 'none given'} - mend the reward "
                f"and resume, or allow a larger share"
            )

    def metrics(self) -> dict[str, float]:
        """For the log: the share now, and how many failed so far, in all and by kind."""
        by_kind = {f"failed_{kind}": float(count) for kind, count in sorted(self.counts.items())}
        return {"failed_share": self.share, "failed": float(self.counts.total()), **by_kind}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold, JSON-ready."""
        return {"seen": self.seen, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another guard stopped.

        The window starts afresh: somebody who resumes a run that was stopped has mended the reward, and the failures
        from before would stop it again.
        """
        self.seen = int(state["seen"])
        self.counts = Counter(state["counts"])
        self._recent.clear()


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
