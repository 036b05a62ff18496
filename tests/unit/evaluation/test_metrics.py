from dataclasses import replace
from math import sqrt
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.evaluation.metrics import (
    Choice,
    PairResult,
    accuracy,
    compare_judges,
    exact_match,
    group_accuracy,
    macro_mean,
    order_check,
    prefer,
    sign_test,
)

FIRST, SECOND, SAME = Choice
CHOICES = st.sampled_from([FIRST, SECOND, SAME, None])


def pair(number, label, choice, **more):
    return PairResult(str(number), label, choice, **more)


def test_accuracy_by_hand():
    """Task a: right, right, tie, failed. Task b: wrong, tie. "same" labels are left out.

    Answered 5: strict 2/5, half credit (2 + 2/2)/5 = 3/5, ties 2/5, of all 6 strict 2/6.
    Macro strict (2/3 + 0)/2 = 1/3; macro half ((2.5/3) + (0.5/2))/2.
    """
    results = [
        pair(1, FIRST, FIRST, task="a"),
        pair(2, SECOND, SECOND, task="a"),
        pair(3, FIRST, SAME, task="a"),
        pair(4, FIRST, None, task="a"),
        pair(5, FIRST, SECOND, task="b"),
        pair(6, SECOND, SAME, task="b"),
        pair(7, SAME, FIRST, task="b"),
    ]
    result = accuracy(results)
    assert (result.pairs, result.failed) == (6, 1)
    assert result.strict.value == pytest.approx(2 / 5)
    assert result.half_credit.value == pytest.approx(3 / 5)
    assert result.ties.value == pytest.approx(2 / 5)
    assert result.failures_as_wrong.value == pytest.approx(2 / 6)
    assert result.macro_strict.value == pytest.approx(1 / 3)
    assert result.macro_half_credit.value == pytest.approx((2.5 / 3 + 0.5 / 2) / 2)
    assert {name: e.value for name, e in result.tasks.items()} == {"a": pytest.approx(2 / 3), "b": 0.0}
    assert result.strict.items == 5
    assert exact_match(results).value == pytest.approx(2 / 6)


def test_nothing_answered_gives_no_figure():
    assert accuracy([pair(1, FIRST, None), pair(2, SAME, FIRST)]) is None
    assert accuracy([]) is None
    assert exact_match([pair(1, FIRST, None)]) is None
    assert compare_judges([pair(1, FIRST, None)], [pair(1, FIRST, FIRST)]) is None
    assert order_check([pair(1, FIRST, FIRST)]) is None


@pytest.mark.parametrize(("share_failed", "error_rate"), [(0.0, 0.3), (0.1, 0.3), (0.5, 0.1)])
def test_a_known_error_rate_is_found_and_failures_leave_it_alone(share_failed, error_rate):
    rng = Random(5)
    results = []
    for i in range(2000):
        label = rng.choice([FIRST, SECOND])
        choice = label if rng.random() >= error_rate else label.swapped
        results.append(pair(i, label, None if rng.random() < share_failed else choice))
    result = accuracy(results)
    assert result.strict.low <= 1 - error_rate <= result.strict.high
    assert result.failed == sum(r.choice is None for r in results)
    assert result.failed / 2000 == pytest.approx(share_failed, abs=0.03)
    assert result.failures_as_wrong.value == pytest.approx(result.strict.value * (1 - result.failed / 2000))


def test_the_interval_is_as_wide_as_the_binomial_one():
    """For 400 pairs at 75 %, 1.96 standard errors are 1.96 * sqrt(.75 * .25 / 400) = 0.0424."""
    result = accuracy([pair(i, FIRST, FIRST if i % 4 else SECOND) for i in range(400)])
    half_width = 1.96 * sqrt(0.75 * 0.25 / 400)
    assert result.strict.high - result.strict.low == pytest.approx(2 * half_width, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([FIRST, SECOND]), CHOICES, st.sampled_from("ab")), min_size=1, max_size=12))
def test_accuracy_does_not_change_when_all_pairs_are_turned_round(rows):
    plain = accuracy([pair(i, label, choice, task=task) for i, (label, choice, task) in enumerate(rows)])
    turned = [
        pair(i, label.swapped, choice and choice.swapped, task=task) for i, (label, choice, task) in enumerate(rows)
    ]
    assert accuracy(turned) == plain
    if plain is not None:
        assert plain.half_credit.value == pytest.approx(plain.strict.value + plain.ties.value / 2)
        assert 0 <= plain.strict.low <= plain.strict.high <= 1


@pytest.mark.parametrize(
    ("first", "second", "margin", "choice"),
    [
        (7.0, 6.0, 0, FIRST),
        (6.0, 7.0, 0, SECOND),
        (7.0, 7.0, 0, SAME),
        (7.0, 6.5, 0.5, SAME),
        (7.0, 6.4, 0.5, FIRST),
        (7.4, 7.1, 0.3, SAME),  # 0.30000000000000071 in binary
        (7.3, 7.0, 0.3, SAME),  # 0.2999999999999998
        (None, 6.0, 0, None),
        (6.0, None, 99, None),
    ],
)
def test_scores_make_a_choice(first, second, margin, choice):
    assert prefer(first, second, margin) is choice


def test_groups_are_right_as_a_whole_by_hand():
    """g1 all right; g2 one wrong; g3 has a failure: 1 of 2, 1 failed. "same" answered "same" is right."""
    results = [
        pair(1, FIRST, FIRST, group="g1"),
        pair(2, SAME, SAME, group="g1"),
        pair(3, FIRST, FIRST, group="g2"),
        pair(4, FIRST, SAME, group="g2"),
        pair(5, FIRST, FIRST, group="g3"),
        pair(6, FIRST, None, group="g3"),
    ]
    result = group_accuracy(results)
    assert result.right.value == 0.5
    assert result.right.items == 2
    assert result.failed == 1


def test_order_check_by_hand():
    """Pairs: consistent right; always the first shown (twice); one order failed, the other right.

    Consistent 1 of 3. Answers of the three: FIRST FIRST, FIRST SECOND, FIRST SECOND; shown first was picked in
    1 + 2 + 2 = 5 of 6. Both orders: right trials 2 + 1 + 1 + 1 of 2 + 2 + 2 + 1 = 5/7.
    """
    results = [
        pair(1, FIRST, FIRST, orders=(FIRST, FIRST)),
        pair(2, FIRST, SAME, orders=(FIRST, SECOND)),
        pair(3, SECOND, SAME, orders=(FIRST, SECOND)),
        pair(4, SECOND, None, orders=(None, SECOND)),
    ]
    check = order_check(results)
    assert check.consistent.value == pytest.approx(1 / 3)
    assert check.inconsistent == 2
    assert check.first_shown == pytest.approx(5 / 6)
    assert check.both_orders.value == pytest.approx(5 / 7)


def test_two_judges_by_hand():
    """8 shared pairs: both right 3, only the second right 4, only the first 1; two pairs are left out.

    Difference (4 - 1)/8. McNemar, exact: 2 * (C(5,0) + C(5,1)) / 2^5 = 12/32.
    """
    first = [FIRST] * 3 + [SECOND] * 4 + [FIRST] + [None, FIRST]
    second = [FIRST] * 3 + [FIRST] * 4 + [SAME] + [FIRST, None]
    result = compare_judges(
        [pair(i, FIRST, c) for i, c in enumerate(first)], [pair(i, FIRST, c) for i, c in enumerate(second)]
    )
    assert (result.only_first, result.only_second, result.left_out) == (1, 4, 2)
    assert result.difference.value == pytest.approx(3 / 8)
    assert result.half_credit_difference.value == pytest.approx(3.5 / 8)
    assert result.p_value == pytest.approx(12 / 32)


def test_a_judge_compared_with_itself_differs_by_nothing():
    results = [pair(i, FIRST, FIRST if i % 3 else SECOND) for i in range(30)]
    result = compare_judges(results, results)
    limit = 1 - 0.025 ** (1 / 30)  # of 0 differences in 30
    found = result.difference
    assert (found.value, found.low, found.high) == pytest.approx((0, -limit, limit))
    assert result.p_value == 1


@pytest.mark.parametrize(("plus", "minus", "p"), [(0, 0, 1), (5, 0, 2 / 32), (3, 3, 1), (8, 2, 2 * 56 / 1024)])
def test_sign_test_by_hand(plus, minus, p):
    assert sign_test(plus, minus) == pytest.approx(p)
    assert sign_test(minus, plus) == sign_test(plus, minus)


def test_sign_test_of_large_numbers_is_finite():
    assert 0 < sign_test(2000, 1800) < 0.01


def test_macro_mean_weighs_names_alike():
    """Means 1, 1, 4 of name a -> 2; 8 of b: (2 + 8) / 2 = 5."""
    assert macro_mean([1, 1, 4, 8], ["a", "a", "a", "b"]).value == pytest.approx(5)
    assert macro_mean([3.0], ["a"]).value == 3


def test_pairs_of_one_context_are_resampled_together():
    """Ten contexts, six alike pairs of each, right in seven of them: as uncertain as ten pairs, not as sixty."""
    single = [PairResult(f"p{i}", FIRST, FIRST if i < 7 else SECOND) for i in range(10)]
    many = [replace(r, id=f"{r.id}/{k}", context=r.id) for r in single for k in range(6)]
    one, six = accuracy(single), accuracy(many)
    assert six.strict.items == 60
    for name in ("strict", "half_credit", "macro_strict", "failures_as_wrong"):
        ours, theirs = getattr(six, name), getattr(one, name)
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))
    assert exact_match(many).low == pytest.approx(exact_match(single).low)
    alone = accuracy([replace(r, context="") for r in many])
    assert alone.strict.high - alone.strict.low < 0.5 * (six.strict.high - six.strict.low)


def test_two_judges_on_contexts_of_several_pairs_by_hand():
    """The second wins both pairs of contexts a, b, c, one of two of d (and loses the other): 3 contexts to none.

    Sign test over a, b, c: 2 / 2^3 = 1/4; over the 7 to 1 pairs it would be 2 (1 + 8) / 2^8 = 0.07.
    """
    ours = [PairResult(f"{c}{k}", FIRST, SECOND, context=c) for c in "abc" for k in range(2)]
    ours += [PairResult("d0", FIRST, SECOND, context="d"), PairResult("d1", FIRST, FIRST, context="d")]
    theirs = [replace(r, choice=FIRST) for r in ours[:7]] + [replace(ours[7], choice=SECOND)]
    found = compare_judges(ours, theirs)
    assert (found.only_second, found.only_first, found.contexts) == (7, 1, 4)
    assert found.p_value == 0.25
    assert found.difference.value == 6 / 8
