"""Benchmarks of editors in their official layouts, with figures worked out by hand."""

import json
import math

import pytest

from editr1.errors import DataError
from editr1.evaluation.benchmarks import EDITOR_BENCHMARKS, PictureStore
from editr1.evaluation.editor_models import evaluate_editor
from editr1.evaluation.prompts import load_rating_prompt
from editr1.evaluation.runs import EvalRun
from editr1.evaluation.scorers import RatingScorer
from editr1.judges import ScriptedJudge
from editr1.types import EditKind

GEDIT, IMGEDIT = EDITOR_BENCHMARKS["gedit"], EDITOR_BENCHMARKS["imgedit"]


@pytest.fixture
def gedit(kit, tmp_path, write_rows):
    """Rows and finished pictures: `add(kind, language, key, worth, intersection)`; `worth` None makes no picture."""
    rows = []

    def add(kind, language, key, value, intersection=True):
        number = len(rows)
        folder = tmp_path / "out" / "fullset" / kind / language
        folder.mkdir(parents=True, exist_ok=True)
        if value is not None:
            (folder / f"{key}.png").write_bytes(kit.picture(value, number, size=40))
            (folder / f"{key}_SRCIMG.png").write_bytes(kit.picture(0, number))
        rows.append(
            {
                "task_type": kind,
                "key": key,
                "instruction": f"edit {key}",
                "instruction_language": language,
                "input_image": kit.picture(0, number),
                "Intersection_exist": intersection,
            }
        )

    def load():
        return GEDIT.load(str(write_rows(rows)), str(tmp_path / "out"), PictureStore(tmp_path / "pictures"))

    add.rows, add.load = rows, load
    return add


@pytest.fixture
def half_natural(kit):
    """SC: worth v gives [v, 10]; PQ: [v / 2, 10]. So SC = v, PQ = v / 2, O = v / sqrt(2)."""

    def answer(request):
        value = kit.worth(kit.shown(request)[-1])
        return kit.ratings(value, 10) if len(kit.shown(request)) == 2 else kit.ratings(value / 2, 10)

    return ScriptedJudge(answer)


def evaluate(benchmark, loaded, out, judge):
    run = EvalRun(out, {"benchmark": benchmark.name}, {})
    return evaluate_editor(
        benchmark, loaded, run, lambda: RatingScorer(judge, load_rating_prompt(benchmark.prompt), max_tries=1)
    )


def values(estimates):
    return {name: e.value for name, e in estimates.items()}


def test_gedit_by_hand(gedit, half_natural, kit, tmp_path):
    """English: the k-th of 11 categories, k = 0 .. 10, has one picture worth k, and category 0 two more, worth 6 and 9.

    Category 0: SC (0 + 6 + 9) / 3 = 5. Macro SC (5 + 1 + ... + 10) / 11 = 60 / 11; PQ half, O over sqrt(2).
    The two are not in the intersection: there category 0 is 0 and macro SC is 55 / 11 = 5.
    Chinese: one category, all in the intersection, so that there is but one table.
    """
    for k, kind in enumerate(EditKind):
        gedit(kind.value, "en", f"key{k}", k)
    first = next(iter(EditKind)).value
    gedit(first, "en", "more1", 6, intersection=False)
    gedit(first, "en", "more2", 9, intersection=False)
    for n in range(10):
        gedit(first, "cn", f"cn{n}", 4)
    loaded = gedit.load()
    assert (loaded.rows, loaded.problems) == (23, [])
    result = evaluate(GEDIT, loaded, tmp_path / "run", half_natural)
    assert set(result.tables) == {"en full", "en intersection", "cn full"}
    full = result.tables["en full"]
    assert values(full.macro) == {
        "SC": pytest.approx(60 / 11),
        "PQ": pytest.approx(30 / 11),
        "O": pytest.approx(60 / 11 / math.sqrt(2)),
    }
    assert full.categories[first]["SC"].value == pytest.approx(5)
    assert full.macro["SC"].low < 60 / 11 < full.macro["SC"].high
    assert values(result.tables["en intersection"].macro)["SC"] == pytest.approx(5)
    assert values(result.tables["cn full"].macro)["SC"] == pytest.approx(4)
    assert {i.size for r in half_natural.requests for i in kit.shown(r)} == {(32, 32)}


def test_the_overall_is_a_mean_of_roots_not_a_root_of_means(gedit, half_natural, kit, tmp_path):
    """Two pictures: SC 9, PQ 1 and SC 1, PQ 9: O = 3 each, although sqrt(5 * 5) = 5."""

    def answer(request):
        high = kit.worth(kit.shown(request)[-1]) > 5
        return kit.ratings(*[9 if high == (len(kit.shown(request)) == 2) else 1] * 2)

    half_natural._replies = answer
    gedit("style_change", "en", "a", 9)
    gedit("style_change", "en", "b", 1)
    table = evaluate(GEDIT, gedit.load(), tmp_path / "run", half_natural).tables["en full"]
    assert values(table.macro) == {"SC": 5, "PQ": 5, "O": 3}


def test_gedits_flaws_are_listed(gedit, half_natural, tmp_path):
    gedit("style_change", "en", "good", 8)
    gedit("style_change", "en", "missing", None)
    gedit("style_change", "en", "torn", 5)
    (tmp_path / "out" / "fullset" / "style_change" / "en" / "torn.png").write_bytes(b"torn")
    gedit.rows.append(gedit.rows[0])
    gedit.rows.append(gedit.rows[0] | {"key": "k", "task_type": "juggling"})
    gedit.rows.append(gedit.rows[0] | {"key": "k", "instruction_language": "de"})
    loaded = gedit.load()
    assert loaded.counts == {"duplicate": 1, "picture": 2, "row": 2}
    assert "missing.png: there is no such file" in str(loaded.problems[0])
    result = evaluate(GEDIT, loaded, tmp_path / "run", half_natural)
    assert result.tables["en full"].judged == 1


def test_failures_enter_no_mean(gedit, half_natural, kit, tmp_path):
    gedit("style_change", "en", "good", 8)
    gedit("style_change", "en", "bad", 1)
    answer = half_natural._replies
    half_natural._replies = lambda r: kit.refusal() if kit.worth(kit.shown(r)[-1]) == 1 else answer(r)
    result = evaluate(GEDIT, gedit.load(), tmp_path / "run", half_natural)
    table = result.tables["en full"]
    assert (table.judged, table.failed, result.failures) == (1, 1, {"refused": 1})
    assert table.macro["SC"].value == 8


def test_no_pictures_at_all_is_an_error(gedit, tmp_path):
    gedit("style_change", "en", "missing", None)
    with pytest.raises(DataError, match="holds no picture for a task of GEdit-Bench; the first of 1"):
        gedit.load()
    with pytest.raises(DataError, match="there is no folder"):
        GEDIT.load("nowhere", str(tmp_path / "nowhere"), PictureStore(tmp_path))


@pytest.fixture
def imgedit(kit, tmp_path):
    """`basic_edit.json` with all nine types, and pictures: those of the k-th type are worth 1 + k / 2, but for one."""
    tasks, images = {}, tmp_path / "out"
    images.mkdir()
    (tmp_path / "bench" / "animal").mkdir(parents=True)
    kinds = ["add", "adjust", "extract", "replace", "remove", "background", "style", "compose", "action"]
    for k, kind in enumerate([*kinds, "add", *kinds, *kinds]):
        key = str(k)
        tasks[key] = {"id": f"animal/{k}.jpg", "prompt": f"edit {k}", "edit_type": kind}
        (tmp_path / "bench" / "animal" / f"{k}.jpg").write_bytes(kit.picture(0, k))
        value = 1 + kinds.index(kind) / 2 if k != 9 else 5
        (images / f"{key}.png").write_bytes(kit.picture(value, k))
    path = tmp_path / "bench" / "basic_edit.json"
    path.write_text(json.dumps(tasks))
    return path, tasks, images


def test_imgedit_by_hand(imgedit, kit, tmp_path):
    """Three numbers v, v, v. Type k has 3 pictures of 1 + k / 2; "add" has a fourth of 5: (1 + 1 + 1 + 5) / 4 = 2.

    Macro: (2 + 1.5 + 2 + ... + 5) / 9 = (2 + 26) / 9.
    """
    path, _, images = imgedit
    judge = ScriptedJudge(lambda r: kit.ratings(*[kit.worth(kit.shown(r)[-1])] * 3))
    loaded = IMGEDIT.load(str(path.parent), str(images), PictureStore(tmp_path / "pictures"))
    assert (loaded.rows, loaded.problems) == (28, [])
    table = evaluate(IMGEDIT, loaded, tmp_path / "run", judge).tables["full"]
    assert table.categories["add"]["score"].value == pytest.approx(2)
    assert table.macro["score"].value == pytest.approx(28 / 9)


def test_imgedits_flaws(imgedit, tmp_path):
    path, tasks, images = imgedit
    (images / "3.png").unlink()
    (path.parent / "animal" / "4.jpg").unlink()
    tasks["5"] = {"id": "animal/5.jpg", "prompt": "x"}
    tasks["6"] = "x"
    path.write_text(json.dumps(tasks))
    loaded = IMGEDIT.load(str(path), str(images), PictureStore(tmp_path / "pictures"))
    assert loaded.counts == {"picture": 2, "row": 2}
    assert len(loaded.samples) == 24


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"1": {}, "1": {}}', "has keys twice: 1"),
        ("[1]", "must map keys to"),
        ("{", "is not JSON"),
        (None, "cannot read"),
    ],
)
def test_a_wrong_imgedit_file_is_an_error(imgedit, tmp_path, text, why):
    path, _, images = imgedit
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=why):
        IMGEDIT.load(str(path), str(images), PictureStore(tmp_path))
