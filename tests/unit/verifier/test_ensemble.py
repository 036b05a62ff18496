import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editr1.types import Category, Check, EditVerdict, Principle, Usage, VerdictStatus
from editr1.verifier.ensemble import combine

PRINCIPLES = tuple(Principle(f"Is it {i}?", Category.KEEP) for i in range(3))


def verdict(score, met=(True, True, True), reasoning=""):
    checks = tuple(Check(p, m, f"{reasoning}:{m}") for p, m in zip(PRINCIPLES, met))
    return EditVerdict(VerdictStatus.OK, checks, sum(met) / 3, score, reasoning, usage=Usage(1, 1, 1), seconds=1.0)


def failure(status="timeout"):
    return EditVerdict(VerdictStatus(status), error=f"it was {status}", usage=Usage(1, 0, 1), seconds=2.0)


def test_one_pass_is_itself():
    assert combine([verdict(3.0)]) == verdict(3.0)
    assert combine([failure()]) == failure()


def test_a_tie_is_not_met_and_the_reason_agrees_with_the_result():
    both = combine([verdict(2.0, (True, False, True), "a"), verdict(4.0, (False, False, True), "b")])
    assert [c.met for c in both.checks] == [False, False, True]
    assert [c.reason for c in both.checks] == ["b:False", "a:False", "a:True"]
    assert both.passes.agreement == (0.5, 1.0, 1.0)
    assert (both.score, both.passes.spread, both.average_score) == (3.0, 1.0, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("good", "bad", "ok"), [(1, 1, False), (2, 1, True), (2, 2, False), (3, 2, True), (0, 3, False)]
)
def test_more_than_half_must_succeed(good, bad, ok):
    result = combine([verdict(5.0)] * good + [failure()] * bad)
    assert result.ok == bool(ok)
    assert result.usage.calls == good + bad
    assert result.seconds == good + 2 * bad
    if ok:
        assert result.passes.failed == bad
    else:
        assert result.status is VerdictStatus.TIMEOUT


def test_failure_has_the_most_frequent_status():
    result = combine([failure("error"), failure("refused"), failure("refused")])
    assert (result.status.value, result.error) == ("refused", "3 of 3 passes failed, one with: it was refused")


@given(st.lists(st.tuples(st.floats(0, 10), st.tuples(*[st.booleans()] * 3)), min_size=2, max_size=7))
def test_properties(rows):
    passes = [verdict(score, met, str(i)) for i, (score, met) in enumerate(rows)]
    result = combine(passes)
    scores = [score for score, _ in rows]
    assert math.isclose(result.score, math.fsum(scores) / len(scores), abs_tol=1e-9)
    assert min(scores) - 1e-9 <= result.score <= max(scores) + 1e-9
    assert all(0.5 <= a <= 1 for a in result.passes.agreement)
    closest = min(abs(s - result.score) for s in scores)
    assert abs(scores[int(result.reasoning)] - result.score) == pytest.approx(closest)
    for k, check in enumerate(result.checks):
        assert check.met == (sum(met[k] for _, met in rows) * 2 > len(rows))
        assert check.reason.endswith(str(check.met))
    assert combine([replace(p, id="x") for p in passes]).id == "x"
