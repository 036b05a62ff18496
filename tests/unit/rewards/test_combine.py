import pytest
from reward_fakes import ERROR, REFUSED, TIMEOUT, FakeReward, samples

from editr1.errors import ConfigError
from editr1.rewards import Part, RewardError, Watched, WeightedSum


def test_the_sum_by_hand():
    """2 * 0.5 + 0.5 * 0.2 = 1.1; 2 * 0 + 0.5 * 1 = 0.5."""
    first, second = FakeReward({"s0": 0.5, "s1": 0.0}), FakeReward({"s0": 0.2, "s1": 1.0})
    total = WeightedSum({"a": Part(first, 2.0), "b": Part(second, 0.5)})
    results = total.score(samples(2))
    assert [r.value for r in results] == [pytest.approx(1.1), pytest.approx(0.5)]
    assert {name: part.value for name, part in results[0].parts.items()} == {"a": 0.5, "b": 0.2}


def test_a_sample_fails_with_a_required_part_and_the_others_do_not():
    total = WeightedSum(
        {"a": Part(FakeReward({"s0": 1.0, "s1": TIMEOUT})), "b": Part(FakeReward({"s0": 2.0, "s1": 3.0}))}
    )
    kept = []
    good, bad = total.score(samples(2), on_result=lambda i, r: kept.append((i, r)))
    assert good.value == 3.0
    assert (bad.status, bad.value, bad.error) == (TIMEOUT, None, "a: it broke")
    assert bad.parts["b"].value == 3.0  # what was finished is still told
    assert kept == [(0, good), (1, bad)]


def test_the_weight_of_a_part_that_may_fail_goes_to_the_others():
    """Weights 3 and 1, the second fails: 3 * 0.5 * (4 / 3) = 2, as if both had said 0.5."""
    parts = {
        "a": Part(FakeReward({"s0": 0.5, "s1": 0.5}), 3.0),
        "b": Part(FakeReward({"s0": 0.5, "s1": ERROR}), 1.0, required=False),
    }
    both, one = WeightedSum(parts).score(samples(2))
    assert both.value == pytest.approx(2.0)
    assert one.value == pytest.approx(2.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_are_positive(weight):
    with pytest.raises(ConfigError, match="positive"):
        Part(FakeReward({}), weight)


def test_a_sum_needs_a_required_part():
    with pytest.raises(ConfigError, match="a, b"):
        WeightedSum({name: Part(FakeReward({}), required=False) for name in "ab"})


def test_watchers_change_no_value_and_may_fail():
    main = FakeReward({"s0": 0.5, "s1": REFUSED}, name="main")
    watched = Watched(main, {"other": FakeReward({"s0": ERROR, "s1": 9.0})})
    good, bad = watched.score(samples(2))
    assert watched.name == "main"
    assert (good.value, good.parts["other"].status) == (0.5, ERROR)
    assert (bad.status, bad.parts["other"].value) == (REFUSED, 9.0)


@pytest.mark.parametrize("error", [RewardError("gone"), ZeroDivisionError("oops")])
def test_a_watcher_that_breaks_down_stops_nothing(error, caplog):
    watched = Watched(FakeReward({"s0": 0.5}), {"other": FakeReward({"s0": error})})
    [result] = watched.score(samples(1))
    assert result.value == 0.5
    assert result.parts["other"].status is ERROR
    assert "other broke down" in caplog.text


def test_watchers_see_the_parts_of_a_sum_too():
    total = WeightedSum({"a": Part(FakeReward({"s0": 1.0}))})
    [result] = Watched(total, {"w": FakeReward({"s0": 0.0})}).score(samples(1))
    assert list(result.parts) == ["a", "w"]
