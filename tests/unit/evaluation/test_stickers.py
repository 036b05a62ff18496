"""Scripted scorers with known error rates must come out with the figures that they must."""

from random import Random

import pytest

from editr1.evaluation import stickers as evaluation
from editr1.evaluation.stickers import accuracy_difference, evaluate_edits, evaluate_pairs, evaluate_probes, sample_pair
from editr1.stickers.examples import sample_edit
from editr1.stickers.oracle import utility
from editr1.types import Check, EditVerdict, VerdictStatus


class Scripted:
    """Answers for each item by `answer(item)`: (list of met, score), or None for a failure."""

    def __init__(self, answer):
        self.answer = answer

    def score_many(self, items, *, progress=False):
        return [self._verdict(item) for item in items]

    def _verdict(self, item):
        said = self.answer(item)
        if said is None:
            return EditVerdict(VerdictStatus.TIMEOUT, error="scripted")
        met, score = said
        checks = tuple(Check(p, m) for p, m in zip(item["principles"], met, strict=True))
        return EditVerdict(VerdictStatus.OK, checks, sum(met) / len(met), score)


@pytest.fixture
def edits():
    return {f"{e.task.id}/{e.editor}": e for e in (sample_edit("test", i) for i in range(120))}


def test_the_oracle_itself_is_perfect(edits):
    oracle = Scripted(
        lambda i: (edits[i["id"]].task.truth(edits[i["id"]].scene), utility(edits[i["id"]].task, edits[i["id"]].scene))
    )
    result = evaluate_edits(oracle, 120)
    assert result.accuracy.value == result.parsed.value == 1.0
    assert {name: e.value for name, e in result.balanced.items()} == dict.fromkeys(
        ("All", "Follow", "Keep", "Quality"), 1.0
    )
    assert result.rank_correlation == pytest.approx(1.0)


def test_always_yes_has_balanced_accuracy_one_half(edits):
    result = evaluate_edits(Scripted(lambda i: ([True] * len(i["principles"]), 5.0)), 120)
    assert result.balanced["All"].value == 0.5
    truths = [t for e in edits.values() for t in e.task.truth(e.scene)]
    assert result.accuracy.value == pytest.approx(sum(truths) / len(truths))


def test_known_error_rate_is_found_within_the_interval(edits):
    rng = Random(1)

    def one_in_five_wrong(item):
        truth = edits[item["id"]].task.truth(edits[item["id"]].scene)
        return [t != (rng.random() < 0.2) for t in truth], 5.0

    result = evaluate_edits(Scripted(one_in_five_wrong), 120)
    assert result.accuracy.low <= 0.8 <= result.accuracy.high


def test_what_agrees_by_edit_adds_up_to_the_accuracy(edits):
    result = evaluate_edits(Scripted(lambda i: ([True] * len(i["principles"]), 5.0)), 120)
    right, asked = (sum(counts) for counts in zip(*result.agreed.values(), strict=True))
    assert result.agreed.keys() == edits.keys()
    assert result.accuracy.value == pytest.approx(right / asked)


def test_the_difference_of_two_verifiers_by_hand():
    """On the edits that both judged, the first is right in 1 of 2 and 2 of 2 checks, the second in all: 4/4 - 3/4."""
    first = {"a": (1, 2), "b": (2, 2), "only first": (0, 9)}
    second = {"a": (2, 2), "b": (2, 2), "only second": (0, 9)}
    found = accuracy_difference(first, second)
    assert (found.value, found.items) == (0.25, 2)
    assert (found.low, found.high) == (0.0, 0.5)  # both edits are b, or both are a
    assert accuracy_difference(first, first).value == 0
    with pytest.raises(ValueError, match="no items"):
        accuracy_difference(first, {})


def test_failures_are_counted_and_leave_the_accuracy_alone(edits):
    calls = iter(range(10**6))

    def every_tenth_fails(item):
        if next(calls) % 10 == 0:
            return None
        return edits[item["id"]].task.truth(edits[item["id"]].scene), 5.0

    result = evaluate_edits(Scripted(every_tenth_fails), 120)
    assert result.parsed.value == pytest.approx(0.9)
    assert result.failures == {"timeout": 12}
    assert result.accuracy.value == 1.0


def test_pairs_have_a_better_first_and_share_their_context():
    for index in range(60):
        better, worse = sample_pair("unit", index)
        assert better.task == worse.task
        gap = utility(better.task, better.scene) - utility(worse.task, worse.scene)
        assert gap >= evaluation.PAIR_MARGIN


def test_pair_figures_by_hand():
    """Items come better, worse, better, worse ...; scored so that of 6 pairs 3 win, 1 ties, 1 loses, 1 fails.

    strict = 3/6, half credit = 3.5/6, ties = 1/6.
    """
    scores = iter([9, 1, 9, 1, 9, 1, 5, 5, 1, 9, 9, None])

    def answer(item):
        score = next(scores)
        return None if score is None else ([True] * len(item["principles"]), float(score))

    result = evaluate_pairs(Scripted(answer), 6)
    assert result.strict.value == pytest.approx(3 / 6)
    assert result.half_credit.value == pytest.approx(3.5 / 6)
    assert result.ties.value == pytest.approx(1 / 6)
    assert result.failed == 1


def test_probe_figures_by_hand():
    """Per context right, unchanged, wrong. Orders: yes; not above unchanged (tie); not above wrong; failed."""
    scores = iter([9, 0, 0, 5, 5, 0, 5, 0, 6, None, 0, 0])

    def answer(item):
        score = next(scores)
        return None if score is None else ([True] * len(item["principles"]), float(score))

    result = evaluate_probes(Scripted(answer), 4)
    assert result.ordered.value == 1 / 4
    assert result.above_unchanged.value == 2 / 4
    assert result.above_wrong.value == 2 / 4
    assert result.mean_scores == pytest.approx({"right": 19 / 3, "unchanged": 5 / 4, "wrong": 6 / 4})
    assert result.failed == 1


def test_probes_show_the_right_edit_the_source_and_another_picture():
    seen = []
    evaluate_probes(Scripted(lambda i: seen.append(i) or ([True] * len(i["principles"]), 1.0)), 1)
    right, unchanged, wrong = (i["edited"].tobytes() for i in seen)
    assert unchanged == seen[0]["source"].tobytes()
    assert len({right, unchanged, wrong}) == 3
