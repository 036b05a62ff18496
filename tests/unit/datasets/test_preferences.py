"""Preferences on disk: what is kept, what is left out and why, and that no source is in both splits."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editr1.datasets.edits import BadRow
from editr1.datasets.preference_import import held_out, write_preferences
from editr1.datasets.preferences import read_marks, read_preferences
from editr1.errors import DataError
from editr1.types import Category, EditKind, EditTask, PreferencePair, Principle

PRINCIPLES = (Principle("Is it red?", Category.FOLLOW), Principle("Is it sharp?", Category.QUALITY))


def picture(*color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(buffer, format="PNG")
    return buffer.getvalue()


def pair(number: int = 0, first: int = 1, second: int = 2, **changes: Any) -> PreferencePair:
    """A pair on source `number`, whose edit `first` was preferred to `second`."""
    values = {"same": False, "annotator": "ann", "principles": PRINCIPLES, "instruction": "Make it red"} | changes
    task = EditTask(f"p{number}", picture(0, 0, number), values["instruction"], values["principles"], EditKind.COLOR)
    return PreferencePair(task, picture(first, 0, 0), picture(second, 0, 0), values["same"], values["annotator"])


def write(folder: Path, rows: Iterable[PreferencePair | BadRow], **options: Any) -> Any:
    rows = list(rows)
    return write_preferences(lambda: iter(rows), folder, **({"split": "train"} | options))


def rejects(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "rejects-train.jsonl").read_text().splitlines()]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [pair(0), pair(1, same=True, annotator="simulated:bo"), pair(2, principles=None)]
    found = write(tmp_path, rows, origin="a test")
    assert (found.rows, found.same, found.dropped) == ({"train": 3}, {"train": 1}, {})
    assert list(read_preferences(tmp_path / "train.parquet")) == rows
    manifest = json.loads((tmp_path / "manifest-train.json").read_text())
    assert (manifest["origin"], manifest["rows"], manifest["same"]) == ("a test", {"train": 3}, {"train": 1})


def test_datasets_shows_its_pictures(tmp_path: Path) -> None:
    from datasets import Dataset
    from datasets import Image as ImageFeature

    write(tmp_path, [pair(7, first=200)])
    data = Dataset.from_parquet(str(tmp_path / "train.parquet"), cache_dir=str(tmp_path / "cache"))
    assert isinstance(data.features["preferred"], ImageFeature)
    assert data[0]["preferred"].getpixel((0, 0)) == (200, 0, 0)
    assert data[0]["principles"][1] == {"question": "Is it sharp?", "category": "Image Quality"}


def test_what_cannot_be_used_is_counted_with_reasons(tmp_path: Path) -> None:
    good = pair(0)
    no_picture = PreferencePair(good.task, tmp_path / "nowhere.png", picture(2, 0, 0))
    broken = PreferencePair(good.task, b"no picture", picture(2, 0, 0))
    rows = [
        good,
        pair(1, first=3, second=3),
        pair(2, instruction="  "),
        no_picture,
        broken,
        BadRow("marks.jsonl:9", "not JSON"),
        pair(0),
    ]
    found = write(tmp_path, rows)
    assert found.rows == {"train": 1}
    assert found.dropped == {"same file": 1, "empty": 1, "picture": 2, "row": 1, "duplicate": 1}
    why = {r["kind"]: r["why"] for r in rejects(tmp_path)}
    assert why["same file"] == "the two edits are the same file"
    assert "nowhere.png" in next(r for r in rejects(tmp_path) if r["kind"] == "picture")["why"]
    assert why["duplicate"] == "duplicate of p0 (row 1)"


def test_contradictions_are_dropped_whoever_they_are_of(tmp_path: Path) -> None:
    """Both directions: dropped, whoever said so. "Same" and a preference: only if one annotator said both."""
    rows = [
        pair(0),
        pair(0, first=2, second=1, annotator="bo"),  # the other direction
        pair(1),
        pair(1, same=True),  # the same annotator, in two minds
        pair(2),
        pair(2, same=True, annotator="bo"),  # another one saw no difference: both are kept
        pair(3, instruction="MAKE  it red"),
        pair(3, first=2, second=1),  # the same instruction, but for case and blanks
        pair(4),
    ]
    found = write(tmp_path, rows)
    assert found.dropped == {"contradiction": 6}
    kept = [(p.task.id, p.annotator, p.same) for p in read_preferences(tmp_path / "train.parquet")]
    assert kept == [("p2", "ann", False), ("p2", "bo", True), ("p4", "ann", False)]


def test_splits_are_by_source_and_never_by_pair(tmp_path: Path) -> None:
    rows = [pair(n, first=1, second=second) for n in range(40) for second in (2, 3, 4)]
    found = write(tmp_path, rows, split=None, heldout=0.3)
    sources = {
        name: {p.task.source for p in read_preferences(tmp_path / f"{name}.parquet")} for name in ("train", "heldout")
    }
    assert not sources["train"] & sources["heldout"]
    assert len(sources["train"] | sources["heldout"]) == 40
    assert 4 <= len(sources["heldout"]) <= 20
    assert found.rows["heldout"] == 3 * len(sources["heldout"])
    write(tmp_path / "fewer", rows[:60], split=None, heldout=0.3)
    fewer = {p.task.source for p in read_preferences(tmp_path / "fewer" / "heldout.parquet")}
    assert fewer <= sources["heldout"], "adding data must not move a source"
    assert held_out("x", 1.0)


def test_principles_are_found_once_for_each_context_that_has_none(tmp_path: Path) -> None:
    asked: list[str] = []

    def find(tasks: Any) -> list[Any]:
        asked.extend(t.instruction for t in tasks)
        return [None if t.instruction == "Nonsense" else PRINCIPLES for t in tasks]

    rows = [
        pair(0, principles=None),
        pair(0, second=3, principles=None),
        pair(1),
        pair(2, principles=None, instruction="Nonsense"),
    ]
    found = write(tmp_path, rows, find_principles=find)
    assert asked == ["Make it red", "Nonsense"]
    assert found.dropped == {"principles": 1}
    assert all(p.task.principles == PRINCIPLES for p in read_preferences(tmp_path / "train.parquet"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"split": None}, "share of sources"),
        ({"split": "test"}, "heldout"),
        ({"split": None, "heldout": 1.5}, "got 1.5"),
    ],
)
def test_splits_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        write(tmp_path, [pair()], **options)


def test_nothing_left_is_an_error_and_leaves_former_files_alone(tmp_path: Path) -> None:
    write(tmp_path, [pair()])
    with pytest.raises(DataError, match="the two edits are the same file"):
        write(tmp_path, [pair(first=5, second=5)])
    assert len(list(read_preferences(tmp_path / "train.parquet"))) == 1


def test_marks(tmp_path: Path) -> None:
    for name, color in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / f"{name}.png").write_bytes(picture(color, 0, 0))
    mark = {"source": "a.png", "instruction": "Make it red", "first": "b.png", "second": "c.png", "mark": "second"}
    lines = [
        json.dumps(mark | {"annotator": "ann", "kind": "color_alter"}),
        json.dumps(mark | {"mark": "same", "id": "mine"}),
        json.dumps(mark | {"mark": "left"}),
        "{",
        json.dumps({"source": "a.png"}),
        json.dumps(mark | {"kind": "dance"}),
    ]
    (tmp_path / "marks.jsonl").write_text("\n".join(lines) + "\n")
    first, same, *bad = read_marks(tmp_path / "marks.jsonl")
    assert isinstance(first, PreferencePair)
    assert isinstance(same, PreferencePair)
    assert (first.preferred, first.other) == (tmp_path / "c.png", tmp_path / "b.png")
    assert (first.annotator, first.task.kind, first.same) == ("ann", EditKind.COLOR, False)
    assert (same.task.id, same.same) == ("mine", True)
    why = [str(row) for row in bad]
    assert "first, second or same, got 'left'" in why[0]
    assert why[1].startswith("marks.jsonl:4: not JSON")
    assert "no text under instruction, first, second, mark" in why[2]
    assert "unknown kind 'dance'" in why[3]
    with pytest.raises(DataError, match="no marks"):
        next(iter(read_marks(tmp_path / "nowhere.jsonl")))
