"""Benchmarks of the embedded domain: drawn, and with a truth that scripted judges can be given."""

import io
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editr1.errors import DataError
from editr1.evaluation.benchmarks import EDITOR_BENCHMARKS, REWARD_MODEL_BENCHMARKS, PictureStore, load_pairs
from editr1.evaluation.benchmarks.sticker_draws import Draw, png
from editr1.evaluation.benchmarks.sticker_pairs import pair_row
from editr1.evaluation.editor_models import evaluate_editor
from editr1.evaluation.judgements import Edit
from editr1.evaluation.metrics import Choice
from editr1.evaluation.oracle import OracleScorer
from editr1.evaluation.runs import EvalRun
from editr1.evaluation.stickers import sample_pair
from editr1.judges import ScriptedJudge
from editr1.stickers.draw import draw
from editr1.stickers.faults import EDITORS
from editr1.stickers.oracle import must_stay, utility
from editr1.stickers.tasks import sample_task
from editr1.types import EditKind

PAIRS, TASKS = REWARD_MODEL_BENCHMARKS["stickers"], EDITOR_BENCHMARKS["stickers"]


def worth_of_pictures(split, number, margin=0.5):
    """Bytes of an edited picture's pixels -> its utility, for every edit of a draw."""
    edits = [edit for i in range(number) for edit in sample_pair(split, i, margin)]
    return {draw(e.scene).tobytes(): utility(e.task, e.scene) for e in edits}


def test_a_judge_that_knows_the_truth_is_always_right(kit, tmp_path):
    """44 pairs, 4 of each of the 11 kinds; the oracle's label is what the judge's utilities say: 44 of 44, 11 of 11."""
    worth = worth_of_pictures("unit", 44)
    judge = ScriptedJudge(lambda r: kit.ratings(worth[kit.shown(r)[-1].tobytes()]))
    result, loaded = kit.evaluate(PAIRS, "unit:44", tmp_path / "run", judge)
    assert (loaded.rows, loaded.problems, loaded.table.name) == (44, [], "unit:44:oracle")
    assert {name: e.value for name, e in result.official.items()} == {"accuracy": 1.0, "mean over kinds": 1.0}
    assert set(result.dimensions["overall"].tasks) == {kind.value for kind in EditKind}
    assert {pair.label for pair in loaded.pairs} == {Choice.FIRST, Choice.SECOND}, "the order tells nothing"


def test_a_judge_that_errs_on_every_fourth_pair(kit, tmp_path):
    """40 pairs; on pairs 0, 4, 8 ... the judge says the opposite, on 1, 5, 9 ... the same for both: 20 right, 10 tied.

    Strict 20 / 40, half credit (20 + 5) / 40.
    """
    worth = {}
    for i in range(40):
        for edit in sample_pair("unit", i):
            value = utility(edit.task, edit.scene)
            worth[draw(edit.scene).tobytes()] = {0: 10 - value, 1: 5.0}.get(i % 4, value)
    judge = ScriptedJudge(lambda r: kit.ratings(worth[kit.shown(r)[-1].tobytes()]))
    result, _ = kit.evaluate(PAIRS, "unit:40", tmp_path / "run", judge)
    overall = result.dimensions["overall"]
    assert overall.strict.value == pytest.approx(20 / 40)
    assert overall.half_credit.value == pytest.approx(25 / 40)
    assert overall.ties.value == pytest.approx(10 / 40)


def test_simulated_people_say_same_and_err(kit, tmp_path):
    """Of 60 close pairs `same` enter no accuracy; the oracle agrees with the people mostly, not always."""
    worth = worth_of_pictures("unit", 60, margin=0.0)
    judge = ScriptedJudge(lambda r: kit.ratings(worth[kit.shown(r)[-1].tobytes()]))
    result, loaded = kit.evaluate(PAIRS, "unit:60:bo", tmp_path / "run", judge)
    said = [pair_row("unit", i, "bo")["preferred"] for i in range(60)]
    assert [pair.label.value for pair in loaded.pairs] == said
    assert result.same == said.count("same") > 0
    right = sum(
        label == ("first" if gap > 0 else "second")
        for label, gap in zip(said, (gap_of(i) for i in range(60)), strict=True)
        if label != "same" and gap
    )
    assert result.dimensions["overall"].pairs == 60 - said.count("same")
    assert result.official["accuracy"].value == pytest.approx(right / (60 - said.count("same")))
    assert 0.7 < result.official["accuracy"].value < 1


def gap_of(index):
    """Utility of the first edit of a row less that of the second, told by their pictures."""
    worth = {png(e.scene): utility(e.task, e.scene) for e in sample_pair("unit", index, 0.0)}
    row = pair_row("unit", index, "bo")
    return worth[row["first"]] - worth[row["second"]]


def test_a_draw_is_the_same_each_time_and_carries_principles(tmp_path):
    one, two = (load_pairs(PAIRS, "unit:5", PictureStore(tmp_path / name)) for name in "ab")
    assert one.hash == two.hash
    assert [p.id for p in one.pairs] == [p.id for p in two.pairs]
    assert all(p.principles == sample_task("unit", i).principles for i, p in enumerate(one.pairs))
    assert load_pairs(PAIRS, "other:5", PictureStore(tmp_path / "c")).hash != one.hash


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no draw of stickers"),
        ("a/b", "is no draw of stickers"),
        ("test:x", "'x' in 'test:x' is no number of rows"),
        ("test:0", "'0' in 'test:0' is no number of rows"),
        ("test:5:eve", "no annotator 'eve' in 'test:5:eve': name one of oracle, ann, bo"),
        ("test:5:ann:6", "is no draw of stickers"),
    ],
)
def test_what_is_no_draw_is_an_error(tmp_path, text, why):
    with pytest.raises(DataError, match=why):
        load_pairs(PAIRS, text, PictureStore(tmp_path))
    with pytest.raises(DataError):
        TASKS.load(text, str(tmp_path), PictureStore(tmp_path))


def test_a_draw_has_a_number_by_default():
    assert Draw.parse("test", 7) == Draw("test", 7)
    assert Draw.parse("test:9", 7) == Draw("test", 9)


@pytest.fixture
def finished(tmp_path):
    """Pictures of 22 tasks, two of each kind: right ones for even tasks, the unchanged source for odd ones."""
    folder = tmp_path / "out"
    for index in range(22):
        task = sample_task("unit-edits", index)
        place = folder / task.kind.value / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        draw(task.before if index % 2 else task.after).save(place)
    return folder


def judge_by_oracle(folder, out, data="unit-edits:22"):
    loaded = TASKS.load(data, str(folder), PictureStore(out / "pictures"))
    run = EvalRun(out, {"benchmark": "stickers", "scorer": "oracle"}, {})
    made = []

    def make():
        made.append(1)
        return OracleScorer({s.edit.id: s.key for s in loaded.samples})

    return evaluate_editor(TASKS, loaded, run, make), loaded, made


def test_the_oracle_judges_an_editors_pictures(finished, tmp_path):
    """Kinds take turns over 22 tasks, 11 being odd: each kind has one right picture and one unchanged one.

    Right: followed 10, kept 10, score 10. Unchanged: followed 0, kept 10, score 0. So each category's means, and their
    mean, are 5, 10 and 5. Where a backdrop was to be changed, its crop is the editor's choice and its right picture
    scores as it is recognised: 10 too.
    """
    result, loaded, _ = judge_by_oracle(finished, tmp_path / "run")
    assert (loaded.rows, loaded.problems) == (22, [])
    table = result.tables["full"]
    assert set(table.categories) == {kind.value for kind in EditKind}
    assert table.macro["followed"].value == pytest.approx(5.0, abs=0.1)
    assert table.macro["kept"].value == pytest.approx(10.0, abs=0.1)
    assert table.macro["score"].value == pytest.approx(5.0, abs=0.1)
    assert table.macro["unchanged"].value == pytest.approx(5.0)
    assert table.macro["stayed"].value == pytest.approx(10.0, abs=0.01)
    tasks = [sample_task("unit-edits", index) for index in range(22)]
    had_to_stay = {task.kind.value for task in tasks if must_stay(task).any()}
    assert {kind for kind, row in table.categories.items() if "stayed" in row} == had_to_stay != set(table.categories)
    assert "SC" not in table.macro
    manifest = json.loads((tmp_path / "run" / "result.json").read_text())["manifest"]
    assert manifest["judge"]["fingerprint"] == "oracle:pixels-2"


def test_pixels_that_had_to_stay_and_did_not(tmp_path):
    """A right edit whose left half is painted over: what stayed is the part of the mask that lies to the right."""
    task = next(t for t in map(partial(sample_task, "unit-edits"), range(22)) if must_stay(t).any())
    seen = np.asarray(draw(task.after)).copy()
    seen[:, :48] = 255 - seen[:, :48] // 2  # every level changes: by 16 or less only those from 165 to 175
    near = (np.abs(seen.astype(int) - np.asarray(draw(task.before))).max(axis=2) <= 16) & must_stay(task)
    said = []
    OracleScorer({"e": task.id}).score_many(
        [Edit("e", draw(task.before), Image.fromarray(seen), task.instruction)],
        on_judgement=lambda _, judgement: said.append(judgement),
    )
    assert said[0].parts["stayed"] == pytest.approx(10 * near.sum() / must_stay(task).sum())
    assert near[:, 48:].sum() == must_stay(task)[:, 48:].sum()
    assert said[0].parts["stayed"] < 8
    assert said[0].parts["unchanged"] == 0


def test_faulty_pictures_lose_what_their_faults_cost(tmp_path):
    """The pool's editors, told apart by the exact oracle: the pixel oracle puts them in the same order."""
    exact, found = {}, {}
    for name in ("careful", "sloppy"):
        folder = tmp_path / name
        edits = [EDITORS[name].edit(sample_task("unit-edits", i)) for i in range(44)]
        for i, edit in enumerate(edits):
            place = folder / edit.task.kind.value / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            edit.picture().save(place)
        exact[name] = sum(utility(e.task, e.scene) for e in edits) / 44
        result, _, _ = judge_by_oracle(folder, tmp_path / f"run-{name}", "unit-edits:44")
        found[name] = result.tables["full"].macro["score"].value
    assert exact["careful"] > exact["sloppy"] + 1
    assert found["careful"] > found["sloppy"] + 1
    assert math.isclose(found["careful"], exact["careful"], abs_tol=1.0)


def test_missing_and_torn_pictures_are_listed(finished, tmp_path):
    task = sample_task("unit-edits", 3)
    (finished / task.kind.value / "3.png").unlink()
    (finished / sample_task("unit-edits", 4).kind.value / "4.png").write_bytes(b"torn")
    result, loaded, _ = judge_by_oracle(finished, tmp_path / "run")
    assert loaded.counts == {"picture": 2}
    assert result.tables["full"].judged == 20
    again, _, made = judge_by_oracle(finished, tmp_path / "run")
    assert (again.progress.new, made) == (0, [])


def test_a_picture_that_cannot_be_decoded_is_a_failure(finished, tmp_path):
    place = finished / sample_task("unit-edits", 0).kind.value / "0.png"
    place.write_bytes(place.read_bytes()[:200])
    result, _, _ = judge_by_oracle(finished, tmp_path / "run")
    assert result.failures == {"error": 1}
    assert result.tables["full"].failed == 1


def test_larger_pictures_are_brought_to_the_side_of_stickers(finished, tmp_path):
    for path in finished.rglob("*.png"):
        file = io.BytesIO()
        with Image.open(path) as image:
            image.resize((192, 192), Image.Resampling.LANCZOS).save(file, "PNG")
        path.write_bytes(file.getvalue())
    result, _, _ = judge_by_oracle(finished, tmp_path / "run")
    assert result.tables["full"].macro["score"].value == pytest.approx(5.0, abs=0.5)


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"name the one that holds <kind>/<index>\.png"):
        TASKS.load("unit:3", str(tmp_path / "nowhere"), PictureStore(tmp_path))
    Path(tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture for a task of sticker tasks; the first of 3"):
        TASKS.load("unit:3", str(tmp_path / "empty"), PictureStore(tmp_path))
