import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.evaluation.bootstrap import DIFFERENCE, SHARE, balanced, bootstrap, share


def test_share_and_balanced_by_hand():
    """3 of 4 right -> 0.75. Yes: 8 of 10, no: 1 of 4 -> (0.8 + 0.25) / 2 = 0.525."""
    assert share(np.array([3.0, 4.0])) == 0.75
    assert balanced(np.array([8.0, 10.0, 1.0, 4.0])) == pytest.approx(0.525)


def test_value_is_of_the_whole_sample_and_items_stay_together():
    """Two edits, one with all of 9 checks right, one with its single check wrong: 9 of 10."""
    estimate = bootstrap(np.array([[9.0, 9.0], [0.0, 1.0]]), share)
    assert estimate.value == pytest.approx(0.9)
    assert (estimate.low, estimate.high) == (0.0, 1.0)  # a resample may hold one edit twice


def test_interval_of_a_known_proportion():
    """1000 items, 800 right: the normal interval is 0.8 +- 1.96 sqrt(0.16 / 1000) = 0.8 +- 0.0248."""
    counts = np.array([[1.0, 1.0]] * 800 + [[0.0, 1.0]] * 200)
    estimate = bootstrap(counts, share)
    assert estimate.low == pytest.approx(0.8 - 0.0248, abs=0.004)
    assert estimate.high == pytest.approx(0.8 + 0.0248, abs=0.004)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 5))
def test_interval_holds_the_value(right, seed):
    estimate = bootstrap(np.array([[float(r), 1.0] for r in right]), share, resamples=200, seed=seed)
    assert 0 <= estimate.low <= estimate.high <= 1
    assert estimate.low <= estimate.value <= estimate.high


def test_nothing_to_estimate_from():
    with pytest.raises(ValueError, match="no items"):
        bootstrap(np.zeros((0, 2)), share)


def test_agreement_of_all_resamples_is_no_certainty():
    """Of 10 right out of 10, the exact two-sided 95 % limit is 0.025 ** (1/10) = 0.6915 (Clopper and Pearson); of one
    cluster that is half right, 0.975 of the way to each bound: 0.5 -+ 0.4875."""
    right = np.ones((10, 2))
    every = bootstrap(right, share, bounds=SHARE)
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(0.6915, abs=1e-4)
    none = bootstrap(right * [0, 1], share, bounds=SHARE)
    assert (none.low, none.high) == (0.0, pytest.approx(0.3085, abs=1e-4))
    one = bootstrap(np.array([[1.0, 1.0], [0.0, 1.0]]), share, clusters=["a", "a"], bounds=SHARE)
    assert (one.low, one.high) == pytest.approx((0.0125, 0.9875))
    same = bootstrap(right * [0, 1], share, bounds=DIFFERENCE)
    assert (same.low, same.high) == pytest.approx((-0.3085, 0.3085), abs=1e-4)
    some = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    assert bootstrap(some, share, bounds=SHARE) == bootstrap(some, share)
