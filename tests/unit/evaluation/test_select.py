import json
from itertools import islice
from random import Random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.cli.main import run
from editr1.errors import ConfigError, DataError
from editr1.evaluation.select import Judged, Rules, read_judged, select, without_principle
from editr1.stickers.annotators import SimulatedJudge
from editr1.stickers.faults import EDITORS
from editr1.stickers.oracle import utility
from editr1.stickers.tasks import sample_task
from editr1.types import Category, Check, EditVerdict, Principle, VerdictStatus

FOLLOW, KEEP, QUALITY = Category


def verdict(score, met=(True, True)):
    if score is None:
        return EditVerdict(VerdictStatus.REFUSED, error="no")
    principles = (Principle("Is the cup red?", FOLLOW), Principle("Is the table as before?", KEEP))
    checks = tuple(Check(p, m, "seen") for p, m in zip(principles, met, strict=True))
    return EditVerdict(VerdictStatus.OK, checks, sum(met) / 2, score)


def judged(*scores, context="c"):
    return [Judged(f"{context}{i}", context, verdict(s), {}) for i, s in enumerate(scores)]


def kept(edits, **rules):
    return [s.judged.id for s in select(edits, Rules(**rules)) if s.kept]


def test_best_of_n_by_hand():
    edits = [*judged(3, 8, None, 5), *judged(1, 2, context="d")]
    assert kept(edits, best=1) == ["c1", "d1"]
    assert kept(edits, best=2) == ["c1", "c3", "d0", "d1"]
    reasons = [s.why for s in select(edits, Rules(best=1))]
    assert reasons == [
        "place 3 of 3 of its context, score 3.0; the best has 8.0",
        "place 1 of 3 of its context, score 8.0",
        "no verdict (refused)",
        "place 2 of 3 of its context, score 5.0; the best has 8.0",
        "place 2 of 2 of its context, score 1.0; the best has 2.0",
        "place 1 of 2 of its context, score 2.0",
    ]


def test_of_equal_scores_more_principles_met_wins_then_the_earlier():
    edits = [
        Judged("a", "c", verdict(5, (True, False)), {}),
        Judged("b", "c", verdict(5, (True, True)), {}),
        Judged("c", "c", verdict(5, (True, True)), {}),
    ]
    assert kept(edits, best=1) == ["b"]


def test_rules_by_score_and_principle():
    edits = [
        Judged("good", "c", verdict(8), {}),
        Judged("low", "c", verdict(5.9), {}),
        Judged("spoilt", "c", verdict(8, (True, False)), {}),
        Judged("undone", "c", verdict(8, (False, True)), {}),
    ]
    assert kept(edits, min_score=6) == ["good", "spoilt", "undone"]
    assert kept(edits, min_met=0.6) == ["good", "low"]
    assert kept(edits, families=(KEEP,)) == ["good", "low", "undone"]
    assert kept(edits, questions=("CUP",)) == ["good", "low", "spoilt"]
    assert kept(edits, min_score=6, families=(KEEP,), questions=("cup",), best=1) == ["good"]
    reasons = {s.judged.id: s.why for s in select(edits, Rules(min_score=6, families=(KEEP,)))}
    assert reasons["low"] == "score 5.9 is below 6"
    assert reasons["spoilt"] == "Keep: Is the table as before? No: seen"


def test_edits_without_a_principle_that_is_asked_for_are_kept_and_it_is_said():
    cup, table = (Principle("Is the cup red?", FOLLOW), Principle("Is the table as before?", KEEP))
    edits = [
        Judged("both", "c", EditVerdict(VerdictStatus.OK, (Check(cup, True), Check(table, True)), 1.0, 8), {}),
        Judged("cup", "c", EditVerdict(VerdictStatus.OK, (Check(cup, True),), 1.0, 7), {}),
    ]
    rules = Rules(families=(KEEP,), questions=("CUP",))
    found = select(edits, rules)
    assert [(s.kept, s.why) for s in found] == [(True, "score 8.0"), (True, "score 7.0, no principle of Keep")]
    assert without_principle(found, rules) == {"Keep": 1}
    best = select(edits, Rules(families=(KEEP,), best=2))
    assert best[1].why == "place 2 of 2 of its context, score 7.0, no principle of Keep"


@pytest.mark.parametrize(("rules", "what"), [({"questions": ("cpu",)}, "'cpu'"), ({"families": (QUALITY,)}, "Quality")])
def test_a_rule_that_no_principle_falls_under_is_an_error(rules, what):
    with pytest.raises(ConfigError, match=f"no edit has a principle that {what} asks for"):
        select(judged(3, 8), Rules(**rules))
    assert len(select(judged(None), Rules(**rules))) == 1, "without a verdict there is nothing to look at"


def test_the_top_share_is_of_all_with_a_verdict():
    edits = [*judged(1, 2, 3, 4, None), *judged(5, 6, 7, 8, 9, 10, context="d")]
    assert kept(edits, top=0.3) == ["d3", "d4", "d5"]
    assert kept(edits, top=1.0) == [e.id for e in edits if e.verdict.ok]
    assert kept(edits, top=0.3, best=1) == ["c3", "d5"]


@pytest.mark.parametrize("rules", [{"best": 0}, {"top": 0}, {"top": 1.1}, {"questions": ("(",)}])
def test_rules_that_make_no_sense_are_errors(rules):
    with pytest.raises(ConfigError):
        Rules(**rules)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 10)), max_size=15),
    st.integers(1, 4),
)
def test_best_of_n_keeps_the_best_n_of_each_context(rows, best):
    edits = [Judged(str(i), c, verdict(None if s is None else float(s)), {}) for i, (c, s) in enumerate(rows)]
    chosen = select(edits, Rules(best=best))
    assert [s.judged for s in chosen] == edits
    for context in "abc":
        scores = sorted((e.verdict.score for e in edits if e.context == context and e.verdict.ok), reverse=True)
        left = [s.judged.verdict.score for s in chosen if s.kept and s.judged.context == context]
        assert sorted(left, reverse=True) == scores[:best]


@pytest.fixture(scope="module")
def thousand():
    """125 sticker contexts with 8 edits each, judged by a simulated judge with noise of 1.5 points and oversights."""
    judge = SimulatedJudge("noisy", overlooks_flaws=0.3, overlooks_drift=0.2, sees_what_was_asked=0.2, score_noise=1.5)
    rng = Random(0)
    edits = []
    for index in range(125):
        task = sample_task("unit-select", index)
        for seed in range(8):
            edit = EDITORS[rng.choice(list(EDITORS))].edit(task, seed=seed + 1)
            trace = judge.trace(edit)
            met = sum(c.met for c in trace.checks) / len(trace.checks)
            scored = EditVerdict(VerdictStatus.OK, trace.checks, met, trace.score)
            edits.append(Judged(f"{edit.id}-{seed}", task.id, scored, {"utility": utility(task, edit.scene)}))
    return edits


def worth(edits):
    return fmean(e.row["utility"] for e in edits)


def test_a_selected_tenth_is_worth_more_than_a_random_one_by_two_points(thousand):
    """Of 1,000 sticker edits with a mean utility near 6.5, the tenth that the judge likes best is worth 2 more."""
    chosen = [s.judged for s in select(thousand, Rules(top=0.1)) if s.kept]
    random = Random(1).sample(thousand, 100)
    assert len(chosen) == 100
    assert worth(chosen) > worth(random) + 2


def test_best_of_eight_beats_best_of_one_by_two_points(thousand):
    """One edit a context at random against the one that the judge likes best of eight."""
    eight = [s.judged for s in select(thousand, Rules(best=1)) if s.kept]
    one = [s.judged for s in select(list(islice(thousand, 0, None, 8)), Rules(best=1)) if s.kept]
    assert len(eight) == len(one) == 125
    assert worth(eight) > worth(one) + 2


def write_verdicts(edits, path):
    """As `editr1 score --out` writes them, without pictures: an id names its context."""
    rows = (e.verdict.to_dict() | {"id": e.id, "instruction": e.context, "truth": dict(e.row)} for e in edits)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def kept_by_command(path, *rules):
    out = path.with_name("kept.jsonl")
    assert call(path, *rules, "--out", out) == 0
    return [json.loads(line)["truth"]["utility"] for line in out.read_text().splitlines()]


def test_the_command_keeps_what_is_worth_more_by_two_points(thousand, tmp_path):
    """`editr1 select` on the same 1,000 edits: the best tenth against a random one, best of 8 against best of 1."""
    path = tmp_path / "verdicts.jsonl"
    write_verdicts(thousand, path)
    tenth = kept_by_command(path, "--top", 0.1)
    random = [e.row["utility"] for e in Random(2).sample(thousand, 100)]
    assert len(tenth) == 100
    assert fmean(tenth) > fmean(random) + 2
    eight = kept_by_command(path, "--best", 1)
    write_verdicts(list(islice(thousand, 0, None, 8)), path)
    one = kept_by_command(path, "--best", 1)
    assert len(eight) == len(one) == 125
    assert fmean(eight) > fmean(one) + 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_embedded_verifier_selects_what_is_worth_more_by_two_points(tmp_path):
    """1,000 edits that no training saw, 8 of each of 125 contexts, scored by the shipped verifier and its own words."""
    from editr1 import Verifier
    from editr1.evaluation.stickers import item

    rng, edits = Random(3), []
    for index in range(125):
        task = sample_task("e2e-select", index)
        edits += [EDITORS[rng.choice(list(EDITORS))].edit(task, seed=seed + 1) for seed in range(8)]
    items = [item(e.task, e.scene, f"{n}-{e.editor}") for n, e in enumerate(edits)]
    verdicts = Verifier.from_pretrained("embedded").score_many(items)
    scored = [
        Judged(i["id"], e.task.id, v, {"utility": utility(e.task, e.scene)})
        for i, e, v in zip(items, edits, verdicts, strict=True)
    ]
    path = tmp_path / "verdicts.jsonl"
    write_verdicts(scored, path)
    tenth = kept_by_command(path, "--top", 0.1)
    assert fmean(tenth) > fmean(e.row["utility"] for e in rng.sample(scored, len(tenth))) + 2
    eight = kept_by_command(path, "--best", 1)
    one = [e.row["utility"] for e in scored[::8]]
    assert len(eight) == 125
    assert fmean(eight) > fmean(one) + 2


@pytest.fixture
def verdicts(tmp_path):
    """A file as `editr1 score --out` writes it: two contexts with the same instruction."""
    folder = tmp_path / "scored"
    folder.mkdir()
    lines = []
    for source, scores in (("a", (3, 8, None)), ("b", (6, 2))):
        for i, score in enumerate(scores):
            beside = {"source": f"../{source}.png", "edited": f"../{source}{i}.png", "instruction": "go", "kind": None}
            lines.append(json.dumps(verdict(score).to_dict() | {"id": f"{source}{i}", "truth": {"x": i}} | beside))
    path = folder / "verdicts.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def call(*arguments):
    with pytest.raises(SystemExit) as caught:
        run(["select", *(str(a) for a in arguments)])
    return int(caught.value.code or 0)


def test_from_the_command_line(verdicts, tmp_path, capsys):
    out = tmp_path / "kept.jsonl"
    assert call(verdicts, "--best", 1, "--out", out) == 0
    assert "2 of 5 edits are kept" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in rows] == ["a1", "b0"]
    assert rows[0]["source"] == "a.png", "relative to the new file"
    assert rows[0]["principles"][0]["question"] == "Is the cup red?"
    assert rows[0]["truth"] == {"x": 1}
    rejected = [json.loads(line) for line in (tmp_path / "kept.rejected.jsonl").read_text().splitlines()]
    assert {r["id"]: r["why"] for r in rejected}["a2"] == "no verdict (refused)"
    assert call(verdicts, "--min-score", 9, "--out", out) == 1
    assert out.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "nothing to select by"),
        (("--require", "beauty"), "unknown principle category"),
        (("--top", "2"), "must be above 0"),
        (("--question", "cpu"), "no edit has a principle that 'cpu' asks for"),
    ],
)
def test_bad_rules_from_the_command_line(verdicts, tmp_path, capsys, arguments, why):
    assert call(verdicts, "--out", tmp_path / "x.jsonl", *arguments) == 2
    assert why in capsys.readouterr().err


def test_the_verdicts_are_never_overwritten(verdicts, capsys):
    assert call(verdicts, "--best", 1, "--out", verdicts) == 2


def test_a_file_that_holds_no_verdicts_is_an_error(tmp_path):
    path = tmp_path / "x.jsonl"
    for text, why in (("", "holds no verdicts"), ("x\n", ":1 is no verdict"), ('{"id": 1}\n', ":1 is no verdict")):
        path.write_text(text)
        with pytest.raises(DataError, match=why):
            read_judged(path)


def test_without_a_source_the_context_is_told_by_the_id(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(verdict(5).to_dict() | {"id": i}) + "\n" for i in ("t/1/a", "t/1/b", "t/2/a")))
    contexts = [e.context for e in read_judged(path)]
    assert contexts[0] == contexts[1] != contexts[2]
    path.write_text(json.dumps(verdict(5).to_dict() | {"id": "x"}) + "\n")
    with pytest.raises(DataError, match="its context is not known"):
        read_judged(path)
