import json

import pytest
from reward_fakes import ERROR, REFUSED, TIMEOUT, failed

from editr1.errors import ConfigError
from editr1.rewards import FailureGuard, RewardError, RewardResult

OK = RewardResult.of(0.5)


def test_share_is_of_the_window_only():
    guard = FailureGuard(0.5, 4)
    guard.record([failed(), failed()])  # 2 of 2, but the window holds 4: too early to say
    assert guard.share == 1.0
    guard.record([OK, OK])  # 2 of 4 is not more than a half
    assert guard.share == 0.5
    guard.record([OK, OK])
    assert guard.share == 0.0
    assert guard.metrics() == {"failed_share": 0.0, "failed": 2.0, "failed_error": 2.0}


def test_too_many_failures_stop_with_counts_and_the_last_reason():
    guard = FailureGuard(0.5, 4)
    message = r"3 of the last 4 rewards failed \(2 error, 1 timeout\), more than the allowed share of 0.5.*it was late"
    with pytest.raises(RewardError, match=message):
        guard.record([OK, failed(ERROR), failed(ERROR), failed(TIMEOUT, "it was late")])


def test_all_results_count_before_it_is_judged():
    """Four failures in front of four successes are a half of the window, not all of the first four."""
    FailureGuard(0.5, 8).record([failed()] * 4 + [OK] * 4)
    guard = FailureGuard(0.0, 2)
    guard.record([failed(), OK, OK])  # the failure has left the window
    assert guard.seen == 3


def test_a_share_of_one_never_stops():
    guard = FailureGuard(1.0, 2)
    guard.record([failed(REFUSED)] * 10)
    assert guard.metrics()["failed_refused"] == 10


def test_counts_survive_a_resume_and_the_window_does_not():
    guard = FailureGuard(0.5, 4)
    with pytest.raises(RewardError):
        guard.record([failed()] * 4)
    after = FailureGuard(0.5, 4)
    after.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    assert (after.seen, after.counts, after.share) == (4, {"error": 4}, 0.0)
    after.record([OK])


@pytest.mark.parametrize("options", [{"max_share": -0.1}, {"max_share": 1.1}, {"window": 0}])
def test_bad_options(options):
    with pytest.raises(ConfigError):
        FailureGuard(**options)
