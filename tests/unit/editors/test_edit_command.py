"""`editr1 edit`, on a tiny pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editr1.cli.main import run
from editr1.datasets import EditRow, read_edits
from editr1.editors import build_editor, sample_images
from editr1.editors.jobs import EditFolder, read_tasks
from editr1.editors.sticker_pipeline import save_pipeline
from editr1.editors.testing import KONTEXT_OPTIONS, tiny_kontext
from editr1.errors import ConfigError, DataError
from editr1.types import EditTask

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tiny_kontext(), tmp_path_factory.mktemp("model"), KONTEXT_OPTIONS)


@pytest.fixture
def command(model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(["edit", *map(str, arguments), "--editor", str(model), "--steps", "2", "--device", "cpu"])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Three tasks of two sizes, one with principles."""
    for name, size in (("a", (32, 32)), ("b", (64, 32))):
        Image.effect_noise(size, 90).convert("RGB").save(tmp_path / f"{name}.png")
    principle = {"question": "Is the cat gone?", "category": "Instruction Following"}
    rows: list[dict[str, Any]] = [
        {"id": "one", "source": "a.png", "instruction": "remove the cat", "principles": [principle]},
        {"id": "two/x", "source": "b.png", "instruction": "add a bird", "kind": "subject-add"},
        {"id": "three", "source": "a.png", "instruction": "add a bird"},
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_picture(command: Run, model: Path, tasks: Path, tmp_path: Path) -> None:
    """The file is what the editor makes; PNG keeps every level."""
    out = tmp_path / "deep" / "edited.png"
    code, text, _ = command(
        "--source", tmp_path / "a.png", "--instruction", "remove the cat", "--out", out, "--seed", 3
    )
    assert code == 0
    assert "32x32, seed 3, 2 steps" in text
    editor = build_editor(model)
    task = EditTask("x", tmp_path / "a.png", "remove the cat")
    (expected,) = sample_images(editor, editor.encode([task]), [3], 2)
    assert Image.open(out).tobytes() == expected.tobytes()


def test_a_file_of_tasks(command: Run, tasks: Path, tmp_path: Path) -> None:
    """Two seeds each; what comes out can be scored: paths lead to pictures, principles and kinds are kept."""
    out = tmp_path / "out"
    code, _, notes = command(tasks, "--out", out, "--seed", 0, "--seed", 1, "--batch-size", 2)
    assert code == 0
    assert "6 of 6 edits" in notes
    rows = [row for row in read_edits(out / "edits.jsonl") if isinstance(row, EditRow)]
    assert {row.id for row in rows} == {f"{name}/{seed}" for name in ("one", "two/x", "three") for seed in (0, 1)}
    by_id = {row.id: row.quadruple for row in rows}
    for row in rows:
        assert Path(str(row.quadruple.edited)).is_file()
        assert Path(str(row.quadruple.task.source)).is_file()
    assert by_id["one/0"].task.principles[0].question == "Is the cat gone?"  # type: ignore[index]
    assert by_id["two/x/1"].task.kind == "subject-add"
    assert Image.open(by_id["two/x/0"].edited).size == (40, 16)
    pictures = {Path(str(row.quadruple.edited)).read_bytes() for row in rows}
    assert len(pictures) == 6


def test_what_is_there_is_not_made_again(command: Run, tasks: Path, tmp_path: Path) -> None:
    """Killed after some pictures, with a torn line: the rest is made, and no picture twice."""
    out = tmp_path / "out"
    assert command(tasks, "--out", out, "--limit", 2)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "pictures").iterdir()}
    with (out / "edits.jsonl").open("a") as file:
        file.write('{"id": "three/0", "ta')
    code, _, notes = command(tasks, "--out", out)
    assert code == 0
    assert "3 of 3 edits" in notes
    assert "2 from before" in notes
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = [json.loads(line) for line in (out / "edits.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == ["one/0", "three/0", "two/x/0"]


def test_a_lost_picture_is_made_again(command: Run, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command(tasks, "--out", out)
    whole = (out / "pictures" / "one-0.png").read_bytes()
    (out / "pictures" / "one-0.png").unlink()
    command(tasks, "--out", out)
    assert (out / "pictures" / "one-0.png").read_bytes() == whole
    rows = list(read_edits(out / "edits.jsonl"))
    assert len(rows) == 3
    assert all(isinstance(row, EditRow) for row in rows)


def test_other_settings_need_another_folder(command: Run, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command(tasks, "--out", out)
    code, _, errors = command(tasks, "--out", out, "--true-cfg-scale", 2, "--negative-prompt", "blurry")
    assert code == 2
    assert "another options" in errors
    with pytest.raises(ConfigError, match="another steps"):
        EditFolder(out, json.loads((out / "editing.json").read_text()) | {"steps": 9})


def test_bad_tasks_do_not_stop_the_others(command: Run, tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with tasks.open("a") as file:
        file.write('{"id": "four", "source": "broken.png", "instruction": "x"}\n')
        file.write('{"id": "five", "source": "nowhere.png", "instruction": "x"}\n')
        file.write('{"id": "one", "source": "a.png", "instruction": "again"}\n')
        file.write("nonsense\n")
    code, _, errors = command(tasks, "--out", tmp_path / "out")
    assert code == 1
    assert "3 of 7 edits" in errors
    assert "4 tasks failed" in errors
    for word in ("broken.png", "nowhere.png", "'one' was there already", "tasks.jsonl:7"):
        assert word in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "--source, --instruction missing"),
        (["--source", "a.png", "--out", "x"], "--instruction missing"),
        (["nowhere.jsonl", "--out", "x"], "no file of tasks at nowhere.jsonl"),
        (["nowhere.jsonl", "--source", "a.png", "--out", "x"], "exclude each other"),
        (
            ["--source", "a.png", "--instruction", "b", "--seed", "1", "--seed", "2", "--out", "x.png"],
            "give --out a folder",
        ),
        (["--source", "a.png", "--instruction", "b", "--out", "x.png"], "a.png"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(command: Run, arguments: list[str], message: str) -> None:
    code, _, errors = command(*arguments)
    assert code == 2
    assert errors.startswith("error: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_ids_are_safe_as_names(tmp_path: Path) -> None:
    """Whatever an id holds, its picture lies in the folder, and ids that differ have pictures that differ."""
    folder = EditFolder(tmp_path, {})
    picture = Image.new("RGB", (2, 2))
    ids = ["a/b", "a_b", "../../up", "x" * 300, "x" * 299, "", "."]
    paths = [folder.add(EditTask(name, "s.png", "i"), 0, picture, "e") for name in ids]
    assert len(set(paths)) == len(ids)
    assert all(path.resolve().parent == (tmp_path / "pictures").resolve() for path in paths)


def test_a_task_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('\ufeff{"source": "a.png", "instruction": "x"}\n\n', encoding="utf-8")
    (task,) = read_tasks(path)
    assert isinstance(task, EditTask)
    assert task.source == tmp_path / "a.png"


def test_line_ends_of_unicode_in_an_instruction_do_not_end_a_row(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    told = "Write 'a\u2028b\x85c' on it"
    path.write_text(json.dumps({"source": "a.png", "instruction": told}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    (task,) = read_tasks(path)
    assert isinstance(task, EditTask)
    assert task.instruction == told
    path.write_bytes(b'{"source": "a.png", "instruction": "caf\xe9"}\n')
    with pytest.raises(DataError, match="no text in UTF-8.*save it as UTF-8"):
        list(read_tasks(path))
