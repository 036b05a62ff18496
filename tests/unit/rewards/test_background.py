import threading

import pytest
from reward_fakes import ERROR, REFUSED, TIMEOUT, FakeReward, sample, samples

from editr1.errors import ConfigError
from editr1.rewards import BackgroundScorer, FailureGuard, RewardError, RewardResult, score_with_retries


def of(results):
    return [r.value if r.ok else r.status for r in results]


def test_failures_are_asked_again_by_themselves_and_results_stay_in_order():
    reward = FakeReward({"s0": 0.1, "s1": [ERROR, 0.2], "s2": REFUSED, "s3": [TIMEOUT, ERROR, 0.4], "s4": 0.5})
    waits, final = [], []
    results = score_with_retries(
        reward, samples(5), retries=2, backoff_seconds=1.0, sleep=waits.append, on_result=lambda i, r: final.append(i)
    )
    assert of(results) == [0.1, 0.2, REFUSED, 0.4, 0.5]
    assert reward.calls == [["s0", "s1", "s2", "s3", "s4"], ["s1", "s3"], ["s3"]]
    assert final == [0, 2, 4, 1, 3]
    assert len(waits) == 2
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0


def test_nothing_is_asked_again_when_all_went_well_or_retries_are_used_up():
    reward = FakeReward({"s0": 0.1, "s1": ERROR})
    assert of(score_with_retries(reward, samples(2), retries=1, backoff_seconds=0)) == [0.1, ERROR]
    assert len(reward.calls) == 2
    assert score_with_retries(reward, [], retries=3) == []
    assert len(reward.calls) == 2


def test_a_breakdown_on_retrying_keeps_what_was_finished():
    reward = FakeReward({"s0": 0.1, "s1": [ERROR, RewardError("gone")]})
    assert of(score_with_retries(reward, samples(2), backoff_seconds=0)) == [0.1, ERROR]


def test_a_breakdown_at_once_is_raised():
    with pytest.raises(RewardError, match="gone"):
        score_with_retries(FakeReward({"s0": RewardError("gone")}), samples(1))


def test_scoring_goes_on_while_the_caller_does_something_else():
    begun, go_on = threading.Event(), threading.Event()

    class Slow(FakeReward):
        def score(self, samples, *, on_result=None):
            begun.set()
            assert go_on.wait(10)
            return super().score(samples)

    reward = Slow({"a": 1.0, "b": 2.0})
    with BackgroundScorer(reward) as scorer:
        first = scorer.submit([sample("a")])
        second = scorer.submit([sample("b"), sample("a")])
        assert begun.wait(10)
        assert not first.done()  # and yet we are here, sampling the next group
        with pytest.raises(TimeoutError):
            first.result(timeout=0.01)
        go_on.set()
        assert of(second.result()) == [2.0, 1.0]
        assert of(first.result()) == [1.0]
    assert threading.current_thread() not in reward.threads


def test_the_guard_sees_batches_as_they_are_collected_and_once():
    guard = FailureGuard(0.5, 2)
    with BackgroundScorer(FakeReward({"good": 1.0, "bad": ERROR}), guard=guard, retries=0) as scorer:
        bad, good = scorer.submit([sample("bad"), sample("bad")]), scorer.submit([sample("good"), sample("good")])
        assert len(good.finished) == 2  # by now both are scored, but nobody has collected the bad ones
        good.result()
        good.result()
        assert guard.seen == 2
        with pytest.raises(RewardError, match="2 of the last 2"):
            bad.result()
        assert of(bad.finished) == [ERROR, ERROR]
        assert of(scorer.submit([sample("good")] * 2).finished) == [1.0, 1.0]


def test_bugs_come_out_where_the_results_are_collected():
    with BackgroundScorer(FakeReward({"s0": ZeroDivisionError("oops")})) as scorer, pytest.raises(ZeroDivisionError):
        scorer.score_batch(samples(1))


def test_closing_drops_what_has_not_begun():
    begun, go_on = threading.Event(), threading.Event()

    class Slow(FakeReward):
        def score(self, samples, *, on_result=None):
            begun.set()
            assert go_on.wait(10)
            return [RewardResult.of(1.0) for _ in samples]

    scorer = BackgroundScorer(Slow({}))
    first, second = scorer.submit(samples(1)), scorer.submit(samples(1))
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    scorer.close()
    scorer.close()
    assert of(first.result()) == [1.0]
    assert second._future.cancelled()


@pytest.mark.parametrize("options", [{"retries": -1}, {"workers": 0}, {"backoff_seconds": -1.0}])
def test_bad_options(options):
    with pytest.raises(ConfigError):
        BackgroundScorer(FakeReward({}), **options)
