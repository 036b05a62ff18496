"""Runs side by side: differences worked out by hand, manifests that disagree, items that differ most."""

import json
from pathlib import Path

import pytest

from editr1.cli.main import run as run_cli
from editr1.errors import ConfigError, DataError
from editr1.evaluation.benchmarks import EDITOR_BENCHMARKS, REWARD_MODEL_BENCHMARKS, PictureStore
from editr1.evaluation.compare import compare
from editr1.evaluation.editor_models import evaluate_editor
from editr1.evaluation.paired import compare_runs
from editr1.evaluation.prompts import load_rating_prompt
from editr1.evaluation.runs import EvalRun
from editr1.evaluation.scorers import RatingScorer
from editr1.judges import CachedJudge, ScriptedJudge

GEDIT = EDITOR_BENCHMARKS["gedit"]
TASKS = ("add", "add", "remove", "remove", "remove")
"""Five pairs; in each the preferred edit is worth 7 and the other one 3."""


@pytest.fixture
def pairs(kit, write_rows):
    rows = [
        {
            "id": f"p{i}",
            "source": kit.picture(0, i),
            "preferred": kit.picture(7, 1000 + i),
            "other": kit.picture(3, 2000 + i),
            "instruction": f"edit number {i}",
            "kind": task,
        }
        for i, task in enumerate(TASKS)
    ]
    return write_rows(rows, "pairs/data.jsonl")


@pytest.fixture
def judge_run(kit, pairs, tmp_path):
    """A run whose judge is right on pairs marked "+", ties on "=", is wrong on "-" and refuses on "!"."""

    def make(name, marks, data=pairs, **settings):
        def answer(request):
            number = next(i for i in range(len(TASKS)) if f"edit number {i}\n" in kit.said(request))
            mark, value = marks[number], kit.worth(kit.shown(request)[-1])
            if mark == "!":
                return kit.refusal()
            return kit.ratings({"+": value, "-": 10 - value, "=": 5}[mark])

        judge = ScriptedJudge(answer, name=f"judge-{name}")
        kit.evaluate(REWARD_MODEL_BENCHMARKS["preference"], data, tmp_path / name, judge, **settings)
        return tmp_path / name

    return make


@pytest.fixture
def editor_run(kit, write_rows, tmp_path):
    """A run of an editor: worth of its pictures by (kind, key); None for a picture that is not there."""

    def make(name, worth, seed=0, instruction="edit {key}"):
        rows = []
        for number, ((kind, key), value) in enumerate(worth.items()):
            folder = tmp_path / f"{name}-out" / "fullset" / kind / "en"
            folder.mkdir(parents=True, exist_ok=True)
            if value is not None:
                (folder / f"{key}.png").write_bytes(kit.picture(value, number))
            rows.append(
                {
                    "task_type": kind,
                    "key": key,
                    "instruction": instruction.format(key=key),
                    "instruction_language": "en",
                    "input_image": kit.picture(0, number),
                    "Intersection_exist": key != "outside",
                }
            )
        data = write_rows(rows, f"{name}-data/train.parquet")
        loaded = GEDIT.load(str(data), str(tmp_path / f"{name}-out"), PictureStore(tmp_path / name / "pictures"))
        judge = ScriptedJudge(lambda r: kit.ratings(*[kit.worth(kit.shown(r)[-1])] * 2), name="one judge")
        run = EvalRun(tmp_path / name, {"benchmark": "gedit"}, {})
        scorer = RatingScorer(judge, load_rating_prompt("scpq"), max_tries=1)
        evaluate_editor(GEDIT, loaded, run, lambda: scorer, editor=name, seed=seed)
        return tmp_path / name

    return make


def section(found, name):
    (one,) = [s for s in found.sections if s.name == name]
    return one


def values(estimates):
    return {name: pytest.approx(e.value) for name, e in estimates.items()}


def test_judges_by_hand(judge_run):
    """A is right on 2 of 5, B on 4; pair by pair B less A: add +1 and 0, remove 0 (both right), +1, 0.

    Strict: 2 / 5. Half credit: A has 1 0 1 0.5 0 in the order of pairs, B 1 1 1 1 0: +1.5 / 5. Mean over tasks: gains
    add (0, 1), remove (0, 1, 0): (1/2 + 1/3) / 2 = 5 / 12.
    """
    first, second = judge_run("one", "+-+=-"), judge_run("two", "++++-")
    found = compare([first, second])
    assert (found.kind, [r.letter for r in found.runs], found.warnings) == ("judges", ["A", "B"], ())
    overall = section(found, "overall")
    (paired,) = overall.paired
    assert values(paired.differences) == {
        "strict, a tie is wrong": 2 / 5,
        "half credit for a tie": 1.5 / 5,
        "strict, mean over tasks": 5 / 12,
    }
    assert values(paired.categories) == {"add": 1 / 2, "remove": 1 / 3}
    assert (paired.items, paired.better, paired.worse, paired.p_value) == (5, 2, 0, 0.5)
    assert [e.value for e in overall.totals["strict, a tie is wrong"]] == [2 / 5, 4 / 5]
    assert [e.value for e in overall.charts["strict accuracy"]["remove"]] == pytest.approx([1 / 3, 2 / 3])
    judges, _ = compare_runs(str(first), str(second))
    assert paired.differences["strict, a tie is wrong"] == judges["overall"].difference


def test_dimensions_are_no_trials_of_one_another(kit, write_rows, tmp_path):
    """Three dimensions of five contexts, alike: five pairs each, 2 won and none lost, p = 2 / 2^2; not 15 pairs."""
    rows = [
        {
            "key": [f"{i}a", f"{i}b"],
            "instruction": f"edit number {i}",
            "input_image": kit.picture(0, i),
            "output_images": [kit.picture(7, 1000 + i), kit.picture(3, 2000 + i)],
            "task_type": "extract",
            "dimension": dimension,
        }
        for i in range(5)
        for dimension in ("overall", "prompt_following", "consistency")
    ]
    data = write_rows(rows)
    for name, right in (("one", "012"), ("two", "01234")):

        def answer(request, right=right):
            value = kit.worth(kit.shown(request)[-1])
            won = any(f"edit number {i}\n" in kit.said(request) for i in right)
            return kit.ratings(value if won else 10 - value)

        kit.evaluate(REWARD_MODEL_BENCHMARKS["editscore"], data, tmp_path / name, ScriptedJudge(answer, name=name))
    found, warnings = compare_runs(str(tmp_path / "one"), str(tmp_path / "two"))
    assert warnings == []
    assert list(found) == ["overall", "prompt_following", "consistency"]
    for compared in found.values():
        assert (compared.difference.items, compared.only_second, compared.only_first) == (5, 2, 0)
        assert compared.p_value == 0.5


def test_editors_match_by_key_and_instruction_whatever_their_sources_files(editor_run):
    """Another pipeline saves the source in its own way: the tasks are the same, and the files are said to differ."""
    kinds = [("style_change", "a"), ("text_change", "b")]
    first = editor_run("old", dict(zip(kinds, (3, 4), strict=True)))
    second = editor_run("new", dict(zip(kinds, (5, 8), strict=True)))
    path = second / "pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"context": f"other {row['key']}"}) + "\n" for row in rows))
    found = compare([first, second])
    (paired,) = section(found, "en full").paired
    assert (paired.items, paired.unmatched) == (2, 0)
    assert any("of 2 tasks the source of B is not the same file as that of A" in text for text in found.warnings)


def test_published_figures_stand_beside_the_subset_that_they_are_of(editor_run):
    """GEdit-Bench's are of English instructions, all pictures and categories; beside others none stand."""
    runs = [editor_run(name, {("style_change", "a"): 3}) for name in ("old", "new")]
    assert not any(s.published for s in compare(runs).sections)
    for run in runs:
        result = json.loads((run / "result.json").read_text())
        result["tables"]["en full"]["complete"] = True
        result["tables"] = {"cn full": result["tables"]["en full"], **result["tables"]}
        (run / "result.json").write_text(json.dumps(result))
    found = compare(runs)
    assert {s.name: bool(s.published) for s in found.sections} == {"cn full": False, "en full": True}


def test_what_only_one_judge_answered_is_left_out_and_counted(judge_run):
    found = compare([judge_run("one", "+!+=-"), judge_run("two", "+++!-")])
    (paired,) = section(found, "overall").paired
    assert (paired.items, paired.unanswered, paired.unmatched) == (3, 2, 0)
    assert found.runs[0].failures == {"refused": 2}


def test_editors_by_hand(editor_run):
    """Worth v gives SC = PQ = O = v. Gains: style 2 and 4, text -1: mean of categories (3 - 1) / 2 = 1.

    Without the picture outside the intersection, style gains 2 and the mean is 1/2. The picture that the second
    editor lacks is in neither.
    """
    kinds = [("style_change", "a"), ("style_change", "outside"), ("text_change", "a"), ("text_change", "b")]
    first = editor_run("old", dict(zip(kinds, (3, 4, 6, 5), strict=True)))
    second = editor_run("new", dict(zip(kinds, (5, 8, 5, None), strict=True)))
    found = compare([first, second])
    assert [(r.subject, r.judge) for r in found.runs] == [("old", "one judge, scpq"), ("new", "one judge, scpq")]
    (full,) = section(found, "en full").paired
    assert values(full.differences) == {"SC": 1, "PQ": 1, "O": 1}
    assert values(full.categories) == {"style_change": 3, "text_change": -1}
    assert (full.items, full.unmatched, full.better, full.worse) == (3, 1, 2, 1)
    (inside,) = section(found, "en intersection").paired
    assert values(inside.differences) == {"SC": 0.5, "PQ": 0.5, "O": 0.5}
    assert [w for w in found.warnings if w.startswith("items that only one")] == [
        "items that only one of A and B has: 1 of en full, 1 of en intersection"
    ]
    assert [e.value for e in section(found, "en full").totals["O"]] == pytest.approx([(3.5 + 5.5) / 2, (6.5 + 5) / 2])
    assert not any("fewer categories" in warning for warning in found.warnings)


def test_a_mean_over_fewer_categories_is_warned_of(editor_run):
    """The second editor's one picture of text has no score: its mean is that of style alone, 4; the first one's is
    (3 + 1) / 2 = 2. What both have is style: 4 less 3."""
    kinds = [("style_change", "a"), ("text_change", "a")]
    first = editor_run("old", dict(zip(kinds, (3, 1), strict=True)))
    second = editor_run("new", dict(zip(kinds, (4, None), strict=True)))
    found = compare([first, second])
    full = section(found, "en full")
    assert [e.value for e in full.totals["O"]] == [2, 4]
    assert values(full.paired[0].differences)["O"] == 1
    assert full.lacking == ((), ("text_change",))
    assert any(w.startswith("en full: B has no figure for text_change") for w in found.warnings)


def test_the_interval_is_that_of_paired_items(editor_run):
    """Scores from 0 to 7, each one better by 1 or 2: the means' intervals are wide, that of the difference is not."""
    worth = {("style_change", f"k{i}"): i for i in range(8)}
    found = compare([editor_run("old", worth), editor_run("new", {k: v + 1 + v % 2 for k, v in worth.items()})])
    difference = section(found, "en full").paired[0].differences["O"]
    assert difference.value == 1.5
    assert 1 < difference.low < difference.high < 2
    mean = section(found, "en full").totals["O"][0]
    assert mean.high - mean.low > 2


def test_one_task_does_not_make_a_difference_certain(editor_run):
    """One gain of 2 says nothing of the others: the exact limit of 1 of 1 leaves 97.5 % of tasks that may lose or gain
    all of the 10 points, 2 - 0.975 * 12 = -9.7 and 2 + 0.975 * 8 = 9.8. So for a score of 3: 0.075 and 9.825."""
    found = compare([editor_run("old", {("style_change", "a"): 3}), editor_run("new", {("style_change", "a"): 5})])
    full = section(found, "en full")
    difference, score = full.paired[0].differences["O"], full.totals["O"][0]
    assert (difference.low, difference.high) == pytest.approx((-9.7, 9.8))
    assert (score.low, score.high) == pytest.approx((0.075, 9.825))
    assert full.paired[0].categories["style_change"].high == pytest.approx(9.8)


def test_a_task_with_another_instruction_is_another_task(editor_run):
    first = editor_run("old", {("style_change", "a"): 3})
    second = editor_run("new", {("style_change", "a"): 5}, instruction="something else")
    found = compare([first, second])
    (paired,) = section(found, "en full").paired
    assert (paired.items, paired.differences, paired.unmatched, found.items) == (0, {}, 2, ())
    assert any(w.startswith("data.hash differs: ") for w in found.warnings)


def test_manifests_that_disagree_are_told_with_field_and_values(editor_run):
    worth = {("style_change", "a"): 3}
    first, second, third = editor_run("one", worth), editor_run("two", worth, seed=5), editor_run("three", worth)
    assert compare([first, third]).warnings == ()
    found = compare([first, second, third])
    assert found.warnings == ("seed differs: 0 in A and C, 5 in B",)
    fields = {f.name: f for f in found.fields}
    assert fields["seed"].values == ("0", "5", "0")
    assert (fields["editor"].agrees, fields["editor"].compared) == (False, True)
    change(second, lambda m: m["judge"].update(prompt_hash="abcdefabcdef") or m["judge"]["sampling"].update(top_p=0.9))
    warnings = compare([first, second]).warnings
    own = fields["judge.prompt_hash"].values[0]
    assert f"judge.prompt_hash differs: {own} in A, abcdefabcdef in B" in warnings
    assert "judge.sampling.top_p differs: 1.0 in A, 0.9 in B" in warnings
    change(second, lambda m: m["judge"].pop("fingerprint"))
    told = "judge.fingerprint differs: scripted:one judge in A, not recorded in B"
    assert told in compare([first, second]).warnings


@pytest.mark.parametrize(
    ("where", "field"),
    [
        (("judge", "judge"), "judge.judge"),
        (("judge", "fingerprint"), "judge.fingerprint"),
        (("judge", "prompt_hash"), "judge.prompt_hash"),
        (("image_sizes", "most_common"), "image_sizes.most_common"),
        (("data", "hash"), "data.hash"),
        (("read_from", "revision"), "read_from.revision"),
        (("seed",), "seed"),
        (("code",), "code"),
    ],
)
def test_a_field_that_no_run_records_is_told(editor_run, where, field):
    runs = [editor_run(name, {("style_change", "a"): 3}) for name in ("one", "two")]

    def drop(manifest):
        for key in where[:-1]:
            manifest = manifest[key]
        del manifest[where[-1]]

    for folder in runs:
        change(folder, drop)
    assert compare(runs).warnings == (f"{field} is recorded by none of the runs: whether it agrees cannot be known",)


def change(folder, how):
    path = folder / "result.json"
    result = json.loads(path.read_text())
    how(result["manifest"])
    path.write_text(json.dumps(result))


def test_two_judges_may_differ_in_what_they_are_and_in_nothing_else(judge_run):
    first, second = judge_run("one", "+++++"), judge_run("two", "+++++")
    assert compare([first, second]).warnings == ()
    warm = judge_run("warm", "+++++", tie_margin=0.5)
    assert compare([first, warm]).warnings == ("tie_margin differs: 0.0 in A, 0.5 in B",)


def test_the_manifest_has_what_the_server_said_it_is(kit, pairs, tmp_path):
    judge = ScriptedJudge(lambda r: kit.ratings(5), name="some-vlm")
    judge.versions = {"some-vlm-2026-01-01"}
    preference = REWARD_MODEL_BENCHMARKS["preference"]
    for limit, version in ((2, "some-vlm-2026-01-01"), (5, "some-vlm-2026-02-02")):
        judge.versions = {version}
        kit.evaluate(preference, pairs, tmp_path / "run", CachedJudge(judge, tmp_path / "cache"), limit=limit)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["judge"]["versions"] == ["some-vlm-2026-01-01", "some-vlm-2026-02-02"]


def test_the_items_that_editors_differ_on_most(editor_run):
    keys = [("style_change", f"k{i}") for i in range(6)]
    first = editor_run("old", dict.fromkeys(keys, 5))
    second = editor_run("new", dict(zip(keys, (5, 6, 9, 5, 2, 4), strict=True)))
    items = compare([first, second]).items
    assert [i.id.split("/")[-1] for i in items] == ["k2", "k4", "k1", "k5"], "k0 and k3 are equal"
    assert items[0].gaps == {(0, 1): 4}
    assert [a.value for a in items[0].answers] == [5, 9]
    assert items[0].answers[1].text == "SC 9.00, PQ 9.00, O 9.00"
    assert "I looked" in items[0].answers[1].reasoning[0][1]
    assert [(p.role, p.run) for p in items[0].pictures] == [("source", None), ("edited", 0), ("edited", 1)]
    assert all(p.path.is_file() for p in items[0].pictures)
    assert [i.id.split("/")[-1] for i in compare([first, second], pictures=2).items] == ["k2", "k4"]
    assert compare([first, second], pictures=0).items == ()


def test_each_two_runs_have_their_share_of_the_items(editor_run):
    """A and B differ by 9 on eight items, C and both by 1 on one: of six places, that one has the last."""
    keys = [("style_change", f"k{i}") for i in range(9)]
    low = editor_run("low", dict.fromkeys(keys, 0))
    high = editor_run("high", {key: 0 if key[1] == "k8" else 9 for key in keys})
    other = editor_run("other", {key: 1 if key[1] == "k8" else 0 for key in keys})
    items = compare([low, high, other], pictures=6).items
    assert len(items) == 6
    assert items[-1].id.endswith("k8")


def test_the_items_that_judges_differ_on_most(judge_run):
    """Right against wrong first, then right against a tie; of equal ones the wider margin first."""
    found = compare([judge_run("one", "++-=+"), judge_run("two", "-=-++")])
    first, *others = found.items
    assert [i.id for i in found.items] == ["p0", "p1", "p3"]
    assert first.gaps[0, 1] == pytest.approx(1, abs=0.01)
    assert [i.gaps[0, 1] for i in others] == pytest.approx([0.5, 0.5], abs=0.01)
    assert [a.text for a in first.answers] == [
        "right: prefers the first, 7.00 and 3.00",
        "wrong: prefers the second, 3.00 and 7.00",
    ]
    assert first.label == "People preferred the first."
    assert [about for about, _ in first.answers[0].reasoning] == ["the first", "the second"]
    assert [p.role for p in first.pictures] == ["source", "first", "second"]
    assert all(p.path.is_file() for p in first.pictures)


def test_a_pairwise_judge_compares_with_a_pointwise_one(judge_run, kit, pairs, tmp_path):
    judge = ScriptedJudge(lambda r: '{"choice": "tie"}', name="pairs")
    kit.evaluate(REWARD_MODEL_BENCHMARKS["preference"], pairs, tmp_path / "pairwise", judge, "pairwise")
    found = compare([judge_run("one", "+++++"), tmp_path / "pairwise"])
    assert [a.text for a in found.items[0].answers][1] == "a tie: prefers neither"
    assert [about for about, _ in found.items[0].answers[1].reasoning] == ["both"]
    assert any(w.startswith("judge.scorer differs: holistic in A, pairwise in B") for w in found.warnings)
    official = section(found, "official figures").totals
    assert official["same answer in both orders"][0] is None
    assert official["same answer in both orders"][1].value == 1


def test_what_cannot_be_compared_is_said_in_a_sentence(judge_run, editor_run, tmp_path):
    judges, editors = judge_run("one", "+++++"), editor_run("ed", {("style_change", "a"): 3})
    with pytest.raises(ConfigError, match="2 to 26 runs can be compared, got 1"):
        compare([judges])
    with pytest.raises(DataError, match="is given twice"):
        compare([judges, judges.parent / "." / "one"])
    with pytest.raises(DataError, match="one is a run of judges and .*ed one of editors"):
        compare([judges, editors])
    with pytest.raises(DataError, match="holds no finished evaluation"):
        compare([judges, tmp_path / "nowhere"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text('{"edits": {}}')
    with pytest.raises(DataError, match="holds no run of `editr1 eval rm`"):
        compare([judges, tmp_path / "other"])
    rows = [json.loads(line) for line in (judges / "pairs.jsonl").read_text().splitlines()]
    older = tmp_path / "older"
    older.mkdir()
    (older / "result.json").write_text((judges / "result.json").read_text())
    lines = [json.dumps({k: v for k, v in row.items() if k != "pictures"}) for row in rows]
    (older / "pairs.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="has lines without pictures: run the command that made it again"):
        compare([judges, older])


def test_runs_in_folders_of_one_name_are_told_apart(judge_run, tmp_path):
    first, second = judge_run("x/run", "+++++"), judge_run("y/run", "+++++")
    assert [r.name for r in compare([first, second]).runs] == [str(first), str(second)]


def test_a_run_directory_can_be_moved(editor_run, tmp_path):
    """The source came out of the table and lies in the run; the edited picture stays where it is, unless moved too."""
    first = editor_run("old", {("style_change", "a"): 3})
    second = editor_run("new", {("style_change", "a"): 5})
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("old", "new", "old-out", "new-out"):
        (tmp_path / name).rename(moved / name)
    items = compare([moved / first.name, moved / second.name]).items
    assert all(p.path.is_file() for p in items[0].pictures)


def test_from_the_command_line(judge_run, editor_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    first, second = judge_run("one", "+-+=-"), judge_run("two", "++++-", tie_margin=0.5)

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            run_cli(["eval", "compare", *map(str, arguments)])
        return int(caught.value.code or 0), capsys.readouterr()

    page = tmp_path / "page.html"
    code, said = call(first, second, "--out", page)
    assert code == 0
    assert "warning: tie_margin differs: 0.0 in A, 0.5 in B" in said.err
    assert "B less A, strict, a tie is wrong (5 items)" in said.out
    assert "+40.00 points" in said.out
    text = page.read_text()
    assert "tie_margin differs: 0.0 in A, 0.5 in B" in text
    call(first, second, "--out", page)
    assert page.read_text() == text
    code, said = call(first, editor_run("ed", {("style_change", "a"): 3}), "--out", tmp_path / "none.html")
    assert (code, Path(tmp_path / "none.html").exists()) == (2, False)
    assert "compare runs of one kind" in said.err
