"""Wrong layouts, missing pictures and duplicate keys, of every benchmark, as the command line tells of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editr1.cli import eval_judging, options
from editr1.cli.main import run
from editr1.evaluation.benchmarks import EDITOR_BENCHMARKS, PictureStore
from editr1.evaluation.benchmarks.editors import unique_tasks
from editr1.judges import ScriptedJudge
from editr1.verifier import Verifier

PAIRS = ("editscore", "tiger", "genai_bench", "mmrb2", "preference")
EDITORS = ("gedit", "imgedit")


@pytest.fixture
def editr1(monkeypatch, capsys, tmp_path, kit):
    """`editr1 eval ...` with a judge that rates by the hidden value; returns exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")

    def answer(request):
        value = min(kit.worth(kit.shown(request)[-1]), 5)
        return kit.ratings(*[max(value, 1)] * (3 if "imgedit" in call.scorer else 1))

    def call(*arguments, scorer="holistic"):
        call.scorer = scorer
        with pytest.raises(SystemExit) as caught:
            run(["eval", *(str(a) for a in arguments), "--scorer", scorer, "--out", call.out])
        return int(caught.value.code or 0), capsys.readouterr().err

    call.out = "run"
    judge = ScriptedJudge(answer)
    monkeypatch.setattr(eval_judging, "check_judge", lambda scorer, settings: None)  # the judge is none of those named
    monkeypatch.setattr(
        options, "build_verifier", lambda config, *, quiet=False: Verifier(judge, template="compact", max_tries=1)
    )
    return call


class Rows:
    """One good row of each benchmark, in its published columns, and the same with its pictures gone."""

    def __init__(self, kit, folder: Path):
        self._kit, self._folder = kit, folder

    def good(self, name, key="1"):
        kit = self._kit
        source, better, worse = kit.picture(0, 1), kit.picture(5, 2), kit.picture(2, 3)
        rows = {
            "editscore": {
                "key": [f"{key}-a", f"{key}-b"], "instruction": "x", "input_image": source,
                "output_images": [better, worse], "task_type": "extract", "dimension": "overall",
            },
            "tiger": {
                "id": f"{key}_AB", "dataset": "2pair", "instruction": "x", "source_image": source,
                "candidate_1": better, "candidate_2": worse, "model_1": "m", "model_2": "n", "ranking": "A>B",
                "comparison_type": "AvsB", "score_1": 4.0, "score_2": 2.0,
            },
            "genai_bench": {
                "source_prompt": "a", "target_prompt": "b", "instruct_prompt": "x", "source_image": source,
                "left_model": "m", "left_output_image": better, "right_model": "n", "right_output_image": worse,
                "vote_type": "leftvote",
            },
            "preference": {
                "id": key, "source": source, "preferred": better, "other": worse, "instruction": "x",
            },
        }  # fmt: skip
        return rows[name] if name in rows else self._mmrb2(key, (source, better, worse))

    def _mmrb2(self, key, pictures):
        for name, data in zip("sab", pictures, strict=True):
            (self._folder / f"{name}{key}.png").write_bytes(data)
        return {
            "pair_id": key,
            "prompt_source": "emu",
            "prompt_content": [["text", "x"], ["image", f"s{key}.png"]],
            "response_a": {"model": "m", "response_content": [["image", f"a{key}.png"]]},
            "response_b": {"model": "n", "response_content": [["image", f"b{key}.png"]]},
            "chosen": "A",
        }

    def without_pictures(self, name, key="2"):
        """The same row with its source a path to nowhere (in MMRB2, its edits)."""
        row = self.good(name, key)
        sources = {"editscore": "input_image", "tiger": "source_image", "genai_bench": "source_image"}
        if name == "mmrb2":
            (self._folder / f"a{key}.png").unlink()
            return row
        return row | {sources.get(name, "source"): {"bytes": None, "path": "gone.png"}}


@pytest.fixture
def rows(kit, tmp_path):
    return Rows(kit, tmp_path)


@pytest.fixture
def save(write_rows, tmp_path):
    """Write rows in the published container."""

    def write(name, data):
        if name != "mmrb2":
            return write_rows(data)
        path = tmp_path / "edit.json"
        path.write_text(json.dumps({"pairs": data}))
        return path

    return write


@pytest.mark.parametrize("name", PAIRS)
def test_one_good_row_is_evaluated_and_the_rest_is_listed(name, editr1, rows, save):
    """One good row; one whose picture is gone; for benchmarks with keys, the good one again: a figure, exit code 1."""
    good = rows.good(name)
    code, err = editr1("rm", name, "--data", save(name, [good, rows.without_pictures(name), good]))
    assert code == 1
    listed = [json.loads(line)["kind"] for line in Path("run/problems.jsonl").read_text().splitlines()]
    # a vote of GenAI-Bench has no key: the same two pictures may have been voted on twice
    assert sorted(listed) == (["picture"] if name == "genai_bench" else ["duplicate", "picture"])
    assert f"{len(listed)} of 3 rows are left out (" in err
    assert "gone.png" in err or "a2.png" in err
    result = json.loads(Path("run/result.json").read_text())
    assert result["dimensions"]["overall"]["strict"]["value"] == 1.0
    assert result["manifest"]["read_from"]["left_out"]["picture"] == 1


@pytest.mark.parametrize("name", PAIRS)
def test_nothing_but_missing_pictures_is_exit_code_2(name, editr1, rows, save):
    code, err = editr1("rm", name, "--data", save(name, [rows.without_pictures(name)]))
    assert code == 2
    assert "that can be used; the first of 1:" in err


@pytest.mark.parametrize("name", PAIRS)
def test_another_layout_is_exit_code_2_and_says_what_is_there(name, editr1, write_rows):
    code, err = editr1("rm", name, "--data", write_rows([{"prompt": "x", "image": b"y"}]))
    assert code == 2
    assert "error: " in err
    assert "there are prompt, image" in err or "neither pair_id nor id" in err


@pytest.mark.parametrize("name", PAIRS)
def test_contradictions_leave_nothing_to_compute(name, editr1, rows, save):
    """The same key with the other edit preferred: both rows go, and where there is no key both stay."""
    good = rows.good(name)
    turned = {
        "editscore": lambda: good | {"output_images": good["output_images"][::-1]},
        "tiger": lambda: good | {"ranking": "B>A"},
        "genai_bench": lambda: good | {"vote_type": "rightvote"},
        "mmrb2": lambda: good | {"chosen": "B"},
        "preference": lambda: good | {"preferred": good["other"], "other": good["preferred"]},
    }[name]()
    code, err = editr1("rm", name, "--data", save(name, [good, turned]))
    if name == "genai_bench":
        assert (code, json.loads(Path("run/result.json").read_text())["pairs"]) == (0, 2)
    else:
        assert code == 2
        assert "says otherwise at" in err


@pytest.mark.parametrize("name", ["editscore", "tiger", "genai_bench", "preference"])
@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "there is no file or folder"), ("folder", "holds no table"), (b"PAR1 torn", "cannot be read as Parquet")],
)
def test_data_that_is_no_table_is_exit_code_2(name, content, why, editr1, tmp_path):
    path = tmp_path / "data"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path = tmp_path / "data.parquet"
        path.write_bytes(content)
    code, err = editr1("rm", name, "--data", path)
    assert code == 2
    assert why in err


@pytest.fixture
def editor_data(kit, write_rows, tmp_path):
    """Tasks of both editor benchmarks; `pictures(name, keys)` makes finished pictures for some of them."""
    folder = tmp_path / "images"
    folder.mkdir()

    def data(name, keys=("1", "2")):
        if name == "imgedit":
            (tmp_path / "source.png").write_bytes(kit.picture(0, 1))
            tasks = {key: {"id": "source.png", "prompt": "x", "edit_type": "add"} for key in keys}
            (tmp_path / "basic_edit.json").write_text(json.dumps(tasks))
            return tmp_path / "basic_edit.json"
        row = {"task_type": "text_change", "instruction": "x", "instruction_language": "en", "Intersection_exist": True}
        return write_rows([row | {"key": key, "input_image": kit.picture(0, 1)} for key in keys])

    def pictures(name, *keys):
        place = folder if name == "imgedit" else folder / "fullset" / "text_change" / "en"
        place.mkdir(parents=True, exist_ok=True)
        for key in keys:
            (place / f"{key}.png").write_bytes(kit.picture(4, int(key)))
        return folder

    return data, pictures


@pytest.mark.parametrize("name", EDITORS)
def test_missing_pictures_of_an_editor(name, editr1, editor_data):
    data, pictures = editor_data
    scorer = "imgedit" if name == "imgedit" else "holistic"
    code, err = editr1("editor", name, "--data", data(name), "--images", pictures(name, "1"), scorer=scorer)
    assert code == 1
    assert "1 of 2 rows are left out (1 picture)" in err
    assert json.loads(Path("run/problems.jsonl").read_text())["why"].endswith("there is no such file")


@pytest.mark.parametrize("name", EDITORS)
def test_no_pictures_of_an_editor_at_all_is_exit_code_2(name, editr1, editor_data):
    data, pictures = editor_data
    code, err = editr1("editor", name, "--data", data(name), "--images", pictures(name))
    assert code == 2
    assert "holds no picture for a task of" in err
    assert editr1("editor", name, "--data", data(name), "--images", "nowhere")[0] == 2


def test_an_editors_tasks_given_twice(editr1, editor_data, tmp_path):
    data, pictures = editor_data
    folder = pictures("gedit", "1", "2")
    code, err = editr1("editor", "gedit", "--data", data("gedit", ("1", "2", "1")), "--images", folder)
    assert code == 0, "the same task said again is told of and changes nothing"
    assert "1 of 3 rows are left out (1 duplicate)" in err
    path = tmp_path / "basic_edit.json"
    path.write_text('{"1": {}, "1": {}}')
    editr1.out = "another"
    code, err = editr1("editor", "imgedit", "--data", path, "--images", pictures("imgedit", "1"), scorer="imgedit")
    assert code == 2
    assert "has keys twice: 1" in err


def test_rows_that_say_different_things_of_one_task(editr1, editor_data, kit, write_rows):
    """Neither is judged: which of the two the picture was made by is not known."""
    _, pictures = editor_data
    folder = pictures("gedit", "1", "2")
    row = {"task_type": "text_change", "instruction_language": "en", "Intersection_exist": True}
    said = (("1", "paint it red"), ("2", "x"), ("1", "paint it green"), ("1", "paint it red"))
    rows = [row | {"key": key, "instruction": words, "input_image": kit.picture(0, 1)} for key, words in said]
    data = write_rows(rows)
    code, err = editr1("editor", "gedit", "--data", data, "--images", folder)
    assert code == 1
    assert "2 of 4 rows are left out (1 contradiction, 1 duplicate)" in err
    assert "says otherwise at train-00000.parquet:row 1: neither is used" in err
    (judged,) = (json.loads(line) for line in Path("run/pairs.jsonl").read_text().splitlines())
    assert judged["key"] == "text_change/en/2"
    tasks = unique_tasks(EDITOR_BENCHMARKS["gedit"].tasks(str(data), PictureStore("pictures")))
    assert [task.key for task in tasks] == ["text_change/en/2"], "nor is a picture made of it"


def test_the_same_rows_in_two_folders_count_once(editr1, editor_data, write_rows, kit, tmp_path):
    data, pictures = editor_data
    file = data("gedit")
    twin = tmp_path / "data" / "more" / file.name
    twin.parent.mkdir()
    twin.write_bytes(file.read_bytes())
    code, err = editr1("editor", "gedit", "--data", tmp_path / "data", "--images", pictures("gedit", "1", "2"))
    assert code == 0
    assert "2 of 4 rows are left out (2 duplicate)" in err
    assert f"{file.name}:row 1" in err
    assert "more/" in err
    assert len(Path("run/pairs.jsonl").read_text().splitlines()) == 2


def test_an_interrupted_editor_run_goes_on(editr1, editor_data, kit, monkeypatch):
    """Of 6 pictures the judge breaks down after 4: the second run asks for 2, the third for none, byte for byte."""
    data, pictures = editor_data
    keys = [str(n) for n in range(6)]
    arguments = ("editor", "gedit", "--data", data("gedit", keys), "--images", pictures("gedit", *keys))
    judges = [ScriptedJudge(lambda r: kit.ratings(5), name="one", fail_after=n) for n in (4, None, 0)]
    left = iter(judges)
    monkeypatch.setattr(options, "build_verifier", lambda c, quiet=False: Verifier(next(left), template="compact"))
    assert editr1(*arguments)[0] == 2
    assert len(Path("run/judgements.jsonl").read_text().splitlines()) == 4
    code, err = editr1(*arguments)
    assert (code, len(judges[1].requests)) == (0, 2)
    assert "2 new judgements, 4 from before" in err
    before = {p.name: p.read_bytes() for p in Path("run").iterdir() if p.is_file()}
    assert editr1(*arguments)[0] == 0
    assert {p.name: p.read_bytes() for p in Path("run").iterdir() if p.is_file()} == before
    assert next(left) is judges[2], "nothing was missing: the third judge was never made"
