import pytest
from report_samples import failure, item, varied, verdict

from editr1.errors import DataError
from editr1.reports.entries import read_entries
from editr1.reports.summary import summarise
from editr1.types import VerdictStatus


def test_counts_and_means_leave_failures_out():
    summary = summarise(read_entries(varied()))
    assert (summary.count, summary.scored) == (7, 4)
    assert summary.mean == pytest.approx((7.5 + 4 + 2 + 10) / 4)
    assert summary.median == pytest.approx(5.75)
    assert summary.spread == pytest.approx((sum((s - 5.875) ** 2 for s in (7.5, 4, 2, 10)) / 4) ** 0.5)
    assert summary.failures == (("refused", 1), ("timeout", 2))
    assert summary.histogram == (0, 0, 1, 0, 1, 0, 0, 1, 0, 1)  # a 10 falls into the last bin
    assert (summary.usage.prompt_tokens, summary.usage.completion_tokens) == (7000, 800)
    assert summary.seconds == pytest.approx(10.5)


def test_families_and_kinds():
    summary = summarise(read_entries(varied()))
    assert [(s.name, s.met, s.total) for s in summary.families] == [("Keep", 3, 4), ("Follow", 3, 4), ("Quality", 2, 4)]
    assert [(k.kind, k.count, k.mean) for k in summary.kinds] == [("color_alter", 2, 5.75), ("subject-add", 1, 2.0)]


def test_truth():
    truth = summarise(read_entries(varied())).truth
    assert truth is not None
    assert (truth.edits, truth.disagreeing) == (2, 1)
    assert truth.mean_error == pytest.approx((0.5 + 5.0) / 2)
    # The verdict on a-10 answers yes throughout, the truth says no for Keep; on a-2 all agree.
    assert [(s.name, s.met, s.total) for s in truth.families] == [("Keep", 1, 2), ("Follow", 2, 2), ("Quality", 2, 2)]


def test_disagreement_orders_and_is_unknown_without_truth():
    near, far, unknown, *_ = read_entries(varied())
    assert near.disagreement == pytest.approx(0.05)
    assert far.disagreement == pytest.approx(0.5 + 1 / 3)
    assert (near.disagrees, far.disagrees, unknown.disagrees) == (False, True, False)
    assert unknown.disagreement is None


def test_a_score_too_far_from_the_utility_disagrees_though_all_checks_agree():
    truth = {"utility": 5.0, "checks": [True, True, False]}
    close, far = read_entries([item("close", verdict(7.0), truth=truth), item("far", verdict(7.1), truth=truth)])
    assert (close.disagrees, far.disagrees) == (False, True)


def test_truth_of_another_length_is_not_compared():
    (entry,) = read_entries([item("a", verdict(), truth={"checks": [True, False]})])
    assert [row.truth for row in entry.rows] == [None, None, None]
    assert entry.disagreement is None


def test_truth_of_a_failure_compares_nothing():
    (entry,) = read_entries([item("a", failure(), truth={"utility": 3.0, "checks": [True, True, True]})])
    assert entry.disagreement is None
    assert summarise([entry]).truth is None


def test_only_failures_have_no_mean():
    summary = summarise(read_entries([item("a", failure(status)) for status in list(VerdictStatus)[1:]]))
    assert (summary.mean, summary.spread, summary.median, summary.families) == (None, None, None, ())
    assert len(summary.failures) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": {"status": "fine"}},
        {"verdict": {"status": "refused", "score": 3.0}},
        {"verdict": None},
        {"truth": {"utility": 11}},
        {"truth": {"utility": float("nan")}},
        {"truth": "good"},
    ],
)
def test_bad_items_are_named(change):
    with pytest.raises(DataError, match="item 'second'"):
        read_entries([item("first", verdict()), item("second", verdict()) | change])
