"""A file of verdicts survives whatever ends the program, and never loses or doubles a verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editr1.datasets import EditRow, VerdictFile, edit_row
from editr1.errors import DataError
from editr1.reports import load_items
from editr1.types import Category, Check, EditVerdict, Principle, VerdictStatus


def row(identity: str, folder: Path = Path("pictures")) -> EditRow:
    data = {"id": identity, "source": "a.png", "edited": "b.png", "instruction": "make it red", "kind": "color_alter"}
    return edit_row(data, where="edits.jsonl:1", folder=folder)


def good(score: float = 7.0) -> EditVerdict:
    check = Check(Principle("Is it red?", Category.FOLLOW), True, "The car is réd.")
    return EditVerdict(VerdictStatus.OK, (check,), 1.0, score)


BAD = EditVerdict(VerdictStatus.TIMEOUT, error="no answer in 120 s")


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_verdict_is_on_disk_at_once_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "out" / "verdicts.jsonl"
    file = VerdictFile(path)
    file.append(row("a"), good())
    assert ids(path) == ["a"]  # not closed, not finished
    again = VerdictFile(path)
    assert again.done == {"a"}
    assert again.verdicts["a"].checks == good().checks


def test_a_failure_is_tried_again_and_gives_way_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    with VerdictFile(path) as file:
        for identity, verdict in (("a", BAD), ("b", good()), ("c", BAD)):
            file.append(row(identity), verdict)
    file = VerdictFile(path)
    assert file.done == {"b"}
    file.append(row("a"), good(3.0))
    assert ids(path) == ["a", "b", "c", "a"]
    file.finish(["c", "b", "a"])
    assert ids(path) == ["c", "b", "a"]
    assert VerdictFile(path).verdicts["a"].score == 3.0


def test_a_score_never_gives_way_to_a_failure(tmp_path: Path) -> None:
    file = VerdictFile(tmp_path / "verdicts.jsonl")
    file.append(row("a"), good())
    file.append(row("a"), BAD)
    file.finish()
    assert VerdictFile(file.path).done == {"a"}


def test_edits_that_left_the_input_keep_their_verdicts(tmp_path: Path) -> None:
    file = VerdictFile(tmp_path / "verdicts.jsonl")
    for identity in "abc":
        file.append(row(identity), good())
    file.finish(["c", "x"])
    assert ids(file.path) == ["c", "a", "b"]


@given(cut=st.integers(0, 400))
def test_a_file_cut_anywhere_keeps_all_whole_lines_and_can_be_continued(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "verdicts.jsonl"
    with VerdictFile(path) as file:
        for identity in "abc":
            file.append(row(identity), good())
    data = path.read_bytes()
    kept = data[: len(data) - min(cut, len(data))]
    path.write_bytes(kept)
    whole = kept.count(b"\n")
    file = VerdictFile(path)
    # A line that lacks nothing but its newline is whole, too.
    assert len(file.done) in (whole, whole + 1)
    assert len(file.done) == whole or kept.splitlines()[-1] == data.splitlines()[whole]
    missing = [identity for identity in "abc" if identity not in file.done]
    for identity in missing:
        file.append(row(identity), good())
    file.finish("abc")
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "content",
    ["no verdicts\n", "no verdicts", '{"id": "a"}\n', '{"id": "a"}', "[1]\n", '{"id": "a", "sta\n', "\x00" * 9],
)
def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(DataError, match="notes.txt:1 is no verdict, so nothing is written to it"):
        VerdictFile(path)
    assert path.read_text() == content


def test_a_folder_is_no_file_of_verdicts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        VerdictFile(tmp_path)


def test_a_report_can_be_made_from_the_file_alone(tmp_path: Path) -> None:
    file = VerdictFile(tmp_path / "out" / "verdicts.jsonl")
    file.append(row("a", tmp_path / "pictures"), good())
    file.finish()
    line = json.loads(file.path.read_text(encoding="utf-8"))
    assert line["source"] == "../pictures/a.png"
    (item,) = load_items(file.path)
    assert item["source"].resolve() == tmp_path / "pictures" / "a.png"
    assert (item["instruction"], item["kind"]) == ("make it red", "color_alter")
    assert item["verdict"]["score"] == 7.0


def test_pictures_given_as_bytes_are_left_out(tmp_path: Path) -> None:
    data = {"source": b"x", "edited": b"y", "instruction": "redden"}
    file = VerdictFile(tmp_path / "verdicts.jsonl")
    file.append(edit_row(data, where="e:1"), good())
    assert not {"source", "edited"} & json.loads(file.path.read_text()).keys()


def test_half_a_character_in_an_instruction_loses_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    odd = edit_row(
        {"id": "a\ud800", "source": "a.png", "edited": "b.png", "instruction": "make \udfff it réd"},
        where="edits.jsonl:1",
        folder=tmp_path,
    )
    with VerdictFile(path) as file:
        file.append(odd, good())
        file.append(row("b"), good())
        file.finish()
    again = VerdictFile(path)
    assert again.done == {"a\ud800", "b"}
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0])["instruction"] == "make \udfff it réd"
