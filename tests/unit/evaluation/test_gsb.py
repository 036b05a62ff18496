import json
from math import isnan

import pytest

from editr1.errors import ConfigError, DataError
from editr1.evaluation.agreement import cohen_kappa, krippendorff_alpha
from editr1.evaluation.gsb import Mark, agreement, gsb, marks_of_runs, read_marks

GOOD, SAME, BAD = Mark.GOOD, Mark.SAME, Mark.BAD


def test_gsb_by_hand():
    """Good 6, same 3, bad 1 over 10 contexts: (6 - 1)/10; sign test 2 * (1 + 7)/2^7 = 1/8."""
    marks = {f"c{i}": {"ann": m} for i, m in enumerate([GOOD] * 6 + [SAME] * 3 + [BAD])}
    result = gsb(marks)
    assert (result.good, result.same, result.bad) == (6, 3, 1)
    assert result.gsb.value == pytest.approx(0.5)
    assert result.p_value == pytest.approx(1 / 8)
    assert result.gsb.low < 0.5 < result.gsb.high


def test_the_sign_test_counts_contexts_not_marks():
    """Two contexts, ten annotators each: one context better, one even. One coin toss says nothing."""
    marks = {"c1": {f"a{i}": GOOD for i in range(10)}, "c2": {f"a{i}": [GOOD, BAD][i % 2] for i in range(10)}}
    result = gsb(marks)
    assert (result.better, result.worse, result.p_value) == (1, 0, 1.0)
    assert result.gsb.value == pytest.approx((15 - 5) / 20)


def test_kappa_of_a_textbook_table():
    """Both yes 20, both no 15, yes/no 5, no/yes 10: observed 0.7, chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa 0.4."""
    first = [1] * 20 + [0] * 15 + [1] * 5 + [0] * 10
    second = [1] * 20 + [0] * 15 + [0] * 5 + [1] * 10
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == 1
    assert isnan(cohen_kappa([1, 1], [1, 1]))


def test_alpha_of_krippendorffs_own_example():
    """Four observers, twelve units, gaps, five values: alpha is .743 nominal and .815 ordinal in his text."""
    gap = None
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
        [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
    ]
    units = [[v - 1 for v in column if v is not None] for column in zip(*observers, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(units, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_where_it_cannot_be_said():
    assert isnan(krippendorff_alpha([[1], [2]]))
    assert isnan(krippendorff_alpha([[1, 1], [1, 1]]))
    assert krippendorff_alpha([[0, 0], [2, 2]], "ordinal") == 1


def test_good_against_bad_is_worse_than_good_against_same_on_the_ordinal_scale():
    near = {
        f"c{i}": {"a": m, "b": n} for i, (m, n) in enumerate([(GOOD, SAME), (BAD, BAD), (GOOD, GOOD), (SAME, SAME)])
    }
    far = near | {"c0": {"a": GOOD, "b": BAD}}
    assert agreement(near).alpha_ordinal > agreement(far).alpha_ordinal
    assert agreement(near).kappa["a", "b"][1] == 4


def test_marks_are_read_from_csv_and_jsonl_alike(tmp_path):
    rows = [("c1", "ann", "good"), ("c1", "bob", "Same"), ("c2", "ann", "bad")]
    table, lines = tmp_path / "marks.csv", tmp_path / "marks.jsonl"
    table.write_text("choice,context,annotator,extra\n" + "".join(f"{c},{x},{a},?\n" for x, a, c in rows))
    lines.write_text(
        "".join(json.dumps({"context": x, "annotator": a, "choice": c}) + "\n" for x, a, c in rows), encoding="utf-8"
    )
    marks = read_marks(table)
    assert marks == read_marks(lines)
    assert marks.by_context == {"c1": {"ann": GOOD, "bob": SAME}, "c2": {"ann": BAD}}


def test_contradictions_are_listed_and_do_not_count(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text(
        "context,annotator,choice\nc1,ann,good\nc1,ann,bad\nc2,ann,good\nc2,ann,good\nc3,ann,fine\nc4,,good\n"
    )
    marks = read_marks(path)
    assert [str(c) for c in marks.contradictions] == ["ann marked c1 as good and as bad"]
    assert marks.by_context == {"c2": {"ann": GOOD}}
    assert marks.repeated == 1
    assert [str(b) for b in marks.bad_rows] == [
        "marks.csv:6: unknown choice 'fine': use good, same or bad",
        "marks.csv:7: annotator missing",
    ]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("marks.csv", "context,choice\nc,good\n", "the header lacks annotator"),
        ("marks.jsonl", "nonsense\n", "the first row: marks.jsonl:1: not JSON"),
        ("marks.jsonl", "[1]\n", "must be an object"),
        ("marks.jsonl", "", "holds no mark"),
    ],
)
def test_a_file_without_marks_is_an_error(tmp_path, name, text, why):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=why):
        read_marks(path)


@pytest.mark.parametrize(
    "rows",
    [
        ['c1,ann,good,"nice one', "c2,ann,bad,", "c3,ann,bad,"],  # would swallow the rest
        ['c1,ann,good,"nice one', "c2,ann,bad,", 'c3,ann,bad,"not so'],  # would swallow what is between
        ['"c1,ann,good,', "c2,ann,bad,"],
        ['c1,ann,good,"said "so"', "c2,ann,bad,"],
    ],
)
def test_a_stray_quote_never_swallows_marks(tmp_path, rows):
    path = tmp_path / "marks.csv"
    path.write_text("\n".join(["context,annotator,choice,comment", "c0,ann,good,", *rows]) + "\n")
    with pytest.raises(DataError, match="the row that begins in line 3 is no CSV .*a quote that is not closed"):
        read_marks(path)


def test_quotes_and_lines_within_quotes_are_csv(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text('context,annotator,choice,comment\nc1,ann,good,"said ""so"",\nand more"\nc2,ann,bad,it"s\n')
    assert read_marks(path).by_context == {"c1": {"ann": GOOD}, "c2": {"ann": BAD}}


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot read the marks"):
        read_marks(tmp_path / "nowhere.csv")


def editor_run(folder, worth, more=()):
    """A run of `editr1 eval editor` as far as GSB reads it; None is a picture without a score."""
    folder.mkdir()
    about = {"instruction": "edit", "context": "of the source"}
    rows = [{"key": k, **about, "scores": {} if s is None else {"score": s}} for k, s in worth.items()]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row | dict(more)) + "\n" for row in rows))
    return folder


def test_marks_of_two_runs_by_hand(tmp_path):
    """Margin 0.5. a: 3 -> 4 good; b: 5 -> 5.4 same; c: 6 -> 5.5 bad, just; d: no score; e, f: in one run only."""
    old = editor_run(tmp_path / "old", {"a": 3.0, "b": 5.0, "c": 6.0, "d": 2.0, "e": 1.0})
    new = editor_run(tmp_path / "new", {"a": 4.0, "b": 5.4, "c": 5.5, "d": None, "f": 9.0})
    marks = marks_of_runs(old, new, 0.5)
    assert {key: list(row.values()) for key, row in marks.by_context.items()} == {"a": [GOOD], "b": [SAME], "c": [BAD]}
    assert (marks.unanswered, marks.unmatched) == (1, 2)
    assert gsb(marks.by_context).gsb.value == 0


def test_without_a_margin_only_equal_scores_are_the_same(tmp_path):
    old = editor_run(tmp_path / "old", {"a": 3.0, "b": 5.0})
    new = editor_run(tmp_path / "new", {"a": 3.0, "b": 5.001})
    assert [row["judge"] for row in marks_of_runs(old, new, 0.0).by_context.values()] == [SAME, GOOD]


def test_a_margin_is_met_in_decimals(tmp_path):
    """Margin 0.3. 7.1 -> 7.4 and 7.0 -> 7.3 differ by 0.3, not by less, whatever is left of it in binary."""
    old = editor_run(tmp_path / "old", {"a": 7.1, "b": 7.0, "c": 7.0})
    new = editor_run(tmp_path / "new", {"a": 7.4, "b": 7.3, "c": 7.29})
    assert [row["judge"] for row in marks_of_runs(old, new, 0.3).by_context.values()] == [GOOD, GOOD, SAME]


def test_runs_of_gedit_are_marked_by_their_overall_figure(tmp_path):
    """O, the last one; of two languages one must be chosen, for their tasks share pictures."""
    figures = {"en": (3.0, 5.0), "cn": (6.0, 2.0)}
    folders = []
    for number, name in enumerate(("old", "new")):
        folder = editor_run(tmp_path / name, {})
        rows = [
            {"key": f"add/{of}/k", "instruction": of, "context": name, "language": of,
             "scores": {"SC": 9.0, "PQ": 9.0, "O": worth[number]}}
            for of, worth in figures.items()
        ]  # fmt: skip
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        folders.append(folder)
    with pytest.raises(ConfigError, match="holds tasks in cn and en: choose one with --language"):
        marks_of_runs(*folders, 0.0)
    assert marks_of_runs(*folders, 0.0, "en").by_context == {"add/en/k": {"judge": GOOD}}
    assert marks_of_runs(*folders, 0.0, "cn").by_context == {"add/cn/k": {"judge": BAD}}
    with pytest.raises(ConfigError, match="holds no task in 'de', but in 'cn', 'en'"):
        marks_of_runs(*folders, 0.0, "de")


def test_runs_that_cannot_be_marked(tmp_path):
    old = editor_run(tmp_path / "old", {"a": 3.0})
    with pytest.raises(DataError, match="share no task"):
        marks_of_runs(old, editor_run(tmp_path / "other", {"b": 3.0}), 0.5)
    with pytest.raises(DataError, match="no run of `editr1 eval editor`"):
        marks_of_runs(old, editor_run(tmp_path / "judge", {"a": 3.0}, {"scores": [3.0, 4.0]}), 0.5)
    with pytest.raises(ConfigError, match="at least 0"):
        marks_of_runs(old, old, -1.0)
    with pytest.raises(DataError, match="cannot be read"):
        marks_of_runs(old, tmp_path / "nowhere", 0.5)
