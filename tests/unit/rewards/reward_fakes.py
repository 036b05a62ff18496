"""Rewards and samples for tests."""

from __future__ import annotations

import threading

from PIL import Image

from editr1.rewards import EditSample, RewardResult
from editr1.types import EditTask, VerdictStatus

ERROR, TIMEOUT, REFUSED = VerdictStatus.ERROR, VerdictStatus.TIMEOUT, VerdictStatus.REFUSED


def sample(name="s", source=None, edited=None, **task):
    source = source or Image.new("RGB", (8, 6), "blue")
    edited = edited or Image.new("RGB", (8, 6), "red")
    return EditSample(EditTask("context", source, "paint it red", **task), edited, name)


def samples(number):
    return [sample(f"s{i}") for i in range(number)]


def failed(status=ERROR, error="it broke"):
    return RewardResult.failed(status, error)


class FakeReward:
    """Says for each sample what it is told to by name, call after call; numbers are values, statuses failures."""

    def __init__(self, script, name="fake"):
        self.script = {k: list(v) if isinstance(v, list) else [v] for k, v in script.items()}
        self.name = name
        self.calls, self.threads = [], []

    def score(self, samples, *, on_result=None):
        self.calls.append([s.name for s in samples])
        self.threads.append(threading.current_thread())
        results = []
        for index, s in enumerate(samples):
            lines = self.script[s.name]
            line = lines.pop(0) if len(lines) > 1 else lines[0]
            if isinstance(line, Exception):
                raise line
            results.append(failed(line) if isinstance(line, VerdictStatus) else RewardResult.of(line))
            if on_result is not None:
                on_result(index, results[-1])
        return results
