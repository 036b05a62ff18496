"""`benchmarks/editor_rl.py` compares two sides that compute the same: its own check says so, and notices if not."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from editr1.rewards import EditSample, RewardResult
from editr1.types import EditTask, VerdictStatus

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("editor_rl")


@pytest.mark.parametrize("batch", [1, 3])
def test_both_sides_make_the_same_rewards_and_gradient(benchmark: Any, batch: int) -> None:
    """float32, so rounding: pictures are the same to a level or so, gradients to a few parts in a million."""
    rewards, gradient = benchmark.check(plain_batch=batch)
    assert rewards < 1e-4
    assert gradient < 1e-4


def test_a_difference_is_noticed(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums for means over a latent's elements: the pictures are the same, the gradient is not."""
    loop = import_module("peers.editor_loop")
    right = loop.log_prob
    monkeypatch.setattr(loop, "log_prob", lambda value, *normal: right(value, *normal) * value[0].numel())
    with pytest.raises(AssertionError, match="gradients differ"):
        benchmark.check()


def test_no_group_is_flat_and_no_picture_without_a_value(benchmark: Any) -> None:
    """Three verdicts of 0.5 and one that failed, in one group: 0.500, 0.501, 0.502 and 0 + 0.003."""

    class Judged:
        name = "judged"

        def score(self, samples: Any, *, on_result: Any = None) -> list[RewardResult]:
            failed = RewardResult.failed(VerdictStatus.UNPARSEABLE, "no verdict in it")
            return [failed if sample.name.endswith("3") else RewardResult.of(0.5) for sample in samples]

    task = EditTask("t", "source.png", "remove the star")
    reward = import_module("parts.editor_sides").EveryPictureTeaches(Judged())
    found = reward.score([EditSample(task, "edited.png", f"t@1.{n}") for n in range(4)])
    assert [result.value for result in found] == pytest.approx([0.5, 0.501, 0.502, 0.003])
    assert list(reward.values) == ["t@1.0", "t@1.1", "t@1.2", "t@1.3"]
