"""What is watched while an editor learns, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from editr1.rewards import RewardResult
from editr1.rewards.pixels import unchanged
from editr1.training.editor.watch import GroupRecord, diversity, reward_metrics
from editr1.types import VerdictStatus


def grey(level: int, size: tuple[int, int] = (100, 100)) -> Image.Image:
    return Image.new("RGB", size, (level,) * 3)


def with_patch(level: int, pixels: int) -> Image.Image:
    """Grey 100 with so many pixels of another level, one after the other."""
    levels = np.full((100 * 100, 3), 100, np.uint8)
    levels[:pixels] = level
    return Image.fromarray(levels.reshape(100, 100, 3))


@pytest.mark.parametrize(
    ("edited", "same"),
    [
        (grey(100), True),
        (grey(103), True),  # what an autoencoder may do
        (grey(104), False),  # a faint change everywhere is one
        (with_patch(200, 50), True),  # 0.5 % of the pixels
        (with_patch(200, 51), False),  # a small edit is one, although the mean difference is 0.5 levels
        (with_patch(130, 51), True),  # no pixel changed by more than 32 levels
    ],
)
def test_what_counts_as_no_edit(edited: Image.Image, same: bool) -> None:
    assert unchanged(grey(100), edited) is same


def test_diversity_is_the_mean_over_pairs() -> None:
    """Levels 10, 20, 40: differences 10, 30 and 20, mean 20; seen small, large pictures give the same."""
    assert diversity([grey(10), grey(20), grey(40)]) == pytest.approx(20)
    assert diversity([grey(10, (500, 300)), grey(20, (500, 300))]) == pytest.approx(10)
    assert diversity([grey(10)]) == 0


def record(
    slot: int, *values: float | VerdictStatus, kind: str | None = None, watch: float | None = None
) -> GroupRecord:
    parts = {} if watch is None else {"second": RewardResult.of(watch), "own": RewardResult.of(0.5)}
    results = tuple(
        RewardResult.failed(value, "no", parts=parts)
        if isinstance(value, VerdictStatus)
        else RewardResult.of(value, parts=parts)
        for value in values
    )
    return GroupRecord(slot, f"t{slot}", kind, results, (True,) + (False,) * (len(values) - 1), float(slot))


def test_metrics_by_hand() -> None:
    """Rewards 1, 3 | 2, 2 | 0, none: mean 8/5, population variance (0.36 + 1.96 + 0.16 + 0.16 + 2.56) / 5 = 1.04.

    Deviations within groups 1, 0, 0; two of three groups have no variance.
    """
    records = [
        record(0, 1.0, 3.0, kind="subject-add", watch=0.2),
        record(1, 2.0, 2.0, kind="tone_transfer", watch=0.4),
        record(2, 0.0, VerdictStatus.UNPARSEABLE, kind="subject-add"),
    ]
    metrics = reward_metrics(records, ["second"])
    assert metrics == pytest.approx(
        {
            "reward": 1.6,
            "reward_std": 1.04**0.5,
            "group_std": 1 / 3,
            "zero_variance": 2 / 3,
            "unchanged": 0.5,
            "diversity": 1.0,
            "unscored": 1 / 6,
            "unreadable": 1 / 6,
            "reward/subject-add": 4 / 3,
            "reward/tone_transfer": 2.0,
            "watch/second": 0.3,
            "part/own": 0.5,
        }
    )


def test_nothing_scored_has_no_mean() -> None:
    metrics = reward_metrics([record(0, VerdictStatus.TIMEOUT, VerdictStatus.ERROR)])
    assert "reward" not in metrics
    assert (metrics["unscored"], metrics["unreadable"], metrics["zero_variance"]) == (1, 0, 1)
