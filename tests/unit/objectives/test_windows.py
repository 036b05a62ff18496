from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editr1.objectives import WINDOWS, all_steps, fixed_window, random_window, sliding_window


def test_all_but_the_last():
    assert all_steps(6) == (0, 1, 2, 3, 4)
    assert all_steps(2) == (0,)


def test_fixed():
    assert fixed_window(6, 2, 1) == (1, 2)
    assert fixed_window(6, 5) == all_steps(6)


def test_sliding_by_hand():
    """6 steps, 5 of them usable, 2 at a time: starts 0 1 2 3, then 0 again; each for two iterations."""
    starts = [sliding_window(6, 2, i, every=2)[0] for i in range(10)]
    assert starts == [0, 0, 1, 1, 2, 2, 3, 3, 0, 0]


def test_sliding_reaches_the_last_position_whatever_the_stride():
    """9 usable steps, 4 at a time: starts 0, 2, 4 and then 5, not 6; stride 5 goes 0, 5."""
    assert [sliding_window(10, 4, i, stride=2)[0] for i in range(5)] == [0, 2, 4, 5, 0]
    assert [sliding_window(10, 4, i, stride=5)[0] for i in range(3)] == [0, 5, 0]
    assert [sliding_window(6, 5, i)[0] for i in range(3)] == [0, 0, 0]


def test_random_depends_on_seed_and_iteration_only():
    drawn = [random_window(12, 3, i, seed=1) for i in range(50)]
    assert drawn == [random_window(12, 3, i, seed=1) for i in range(50)]
    assert drawn != [random_window(12, 3, i, seed=2) for i in range(50)]


def test_random_takes_every_position_about_equally():
    """9 positions, 9000 draws: 1000 each, with a deviation of sqrt(1000 * 8 / 9) = 30; the bound is 5 of them."""
    counts = Counter(random_window(12, 3, i, seed=0)[0] for i in range(9000))
    assert set(counts) == set(range(9))
    assert max(abs(n - 1000) for n in counts.values()) < 150


def test_random_keeps_to_its_range():
    starts = {random_window(12, 2, i, seed=0, low=3, high=7)[0] for i in range(100)}
    assert starts == {3, 4, 5}


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))), st.integers(0, 10_000))
def test_every_window_is_a_run_of_steps_without_the_last(shape, iteration):
    steps, size = shape
    for window in (
        fixed_window(steps, size, steps - 1 - size),
        sliding_window(steps, size, iteration, stride=3),
        random_window(steps, size, iteration, seed=5),
    ):
        assert len(window) == size
        assert window == tuple(range(window[0], window[0] + size))
        assert set(window) <= set(all_steps(steps))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: all_steps(1), "sampler of 1 steps"),
        (lambda: fixed_window(6, 2, 4), "a window of 2 from step 4 on does not fit: the first 5 of 6"),
        (lambda: fixed_window(6, 0), "a window of 0"),
        (lambda: sliding_window(6, 6, 0), "a window of 6"),
        (lambda: sliding_window(6, 2, 0, stride=0), "stride 0"),
        (lambda: random_window(6, 2, 0, 0, low=4), "a window of 2 does not fit into steps 4 to 4"),
        (
            lambda: random_window(6, 2, 0, 0, low=3, high=9),
            "steps 3 to 8, .* first 5 of 6",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_kind_has_a_name():
    assert WINDOWS["all"](4) == WINDOWS["fixed"](steps=4, size=3) == (0, 1, 2)
    assert set(WINDOWS) == {"all", "fixed", "sliding", "random"}
