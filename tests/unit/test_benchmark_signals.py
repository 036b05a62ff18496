"""What `benchmarks/reward_signal.py` and `benchmarks/rollout_noise.py` reckon, by hand."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def signal(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("reward_signal")


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("rollout_noise")


def test_of_one_group(signal: Any) -> None:
    """Truth 0, 2, 4. A reward in its order: correlation 1, its best gains 2. Flat: nothing. Two tie on top: 3 - 2."""
    truth = np.array([0.0, 2.0, 4.0])
    assert signal.group_figures(np.array([1.0, 2.0, 3.0]), truth) == pytest.approx((1, 0, 2))
    assert signal.group_figures(np.array([5.0, 5.0, 5.0]), truth) == (0, 1, 0)
    assert signal.group_figures(np.array([0.0, 7.0, 7.0]), truth)[2] == pytest.approx(1)
    assert signal.group_figures(np.array([np.nan, 2.0, 3.0]), truth) == pytest.approx((1, 0, 1)), (
        "of those with a reward"
    )
    assert signal.group_figures(np.array([1.0, np.nan, np.nan]), truth) == (0, 1, 0)


def test_what_a_step_is_worth(signal: Any) -> None:
    """Two groups, truth 0 and 2 in both; a reward says -1, 1 and -3, 3.

    Divided by the groups' deviations, 1 and 3, both say -1, 1: mean product 1, mean square 1, gain 1. Not divided: mean
    products 1 and 3, mean squares 1 and 9: (1 + 3) / 2 / sqrt((1 + 9) / 2) = 2 / sqrt(5).
    """
    terms = signal.gains(np.array([[-1.0, 1.0], [-3.0, 3.0]]), np.array([[0.0, 2.0], [0.0, 2.0]]))
    sums = terms.sum(axis=0)
    assert signal.gain_of(0)(sums) == pytest.approx(1)
    assert signal.gain_of(2)(sums) == pytest.approx(2 / np.sqrt(5))


def test_figures_of_rollouts_by_hand(noise: Any) -> None:
    """Two contexts of two pictures; in the second nothing had to stay, so it has no say in what did."""
    found = noise.estimates(np.array([[2.0, 4.0], [6.0, 6.0]]), np.array([[0.5, 0.7], [np.nan, np.nan]]))
    values = {name: estimate.value for name, estimate in found.items()}
    assert values == pytest.approx({"utility": 4.5, "spread": 0.5, "best": 5.0, "stayed": 60.0})


def test_noises_are_named_as_in_a_recipe(noise: Any) -> None:
    assert noise.Noise.parse("ode").level == 0
    read = noise.Noise.parse("cps:0.5:4")
    assert (read.kind, read.level, read.size) == ("cps", 0.5, 4)
    for wrong in ("cps", "cps:0.5", "sdf:0.5:4", "sde:much:4"):
        with pytest.raises(argparse.ArgumentTypeError, match="KIND:LEVEL:WINDOW"):
            noise.Noise.parse(wrong)
