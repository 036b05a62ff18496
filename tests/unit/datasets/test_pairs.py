"""EditReward-Data, made small: pairs, contradictions, and what cannot be read."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from editr1.datasets.contexts import open_editreward_data
from editr1.datasets.edits import BadRow
from editr1.datasets.integrity import CheckedContext, check_contexts
from editr1.datasets.pairs import read_editreward_data
from editr1.errors import DataError
from editr1.types import PreferencePair

pytestmark = pytest.mark.filterwarnings("ignore:TIGER-Lab")


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(buffer, format="PNG")
    return buffer.getvalue()


def row(key: str, vote: str = "leftvote", left: str = "red", right: str = "blue", **changes: Any) -> dict[str, Any]:
    fields = {
        "key": key,
        "unique_key": f"{key}-0",
        "pair_index": 0,
        "instruction": f"Edit {key}.",
        "source_img": {"bytes": png("white"), "path": "s.png"},
        "left_output_image": {"bytes": png(left), "path": None},
        "right_output_image": {"bytes": png(right), "path": None},
        "left_model": "a",
        "right_model": "b",
        "left_overall_score": 3.0,
        "vote_type": vote,
    }
    return fields | changes


def read(folder: Path, *rows: dict[str, Any]) -> list[PreferencePair | BadRow]:
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "train-00000.parquet")
    return list(read_editreward_data(folder))


def test_votes_say_which_edit_is_preferred(tmp_path: Path) -> None:
    left, right, tie = read(tmp_path, row("1"), row("2", "rightvote"), row("3", "tie"))
    assert (left.preferred, left.other, left.same) == (png("red"), png("blue"), False)
    assert (right.preferred, right.other, right.same) == (png("blue"), png("red"), False)
    assert tie.same
    assert left.task.instruction == "Edit 1."
    assert left.task.source == png("white")


def whys(found: list[PreferencePair | BadRow]) -> list[str]:
    return [r.why if isinstance(r, BadRow) else "" for r in found]


def test_opposite_labels_of_the_same_edits_take_out_all_of_them(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        row("1"),
        row("1", "rightvote", unique_key="another"),
        row("2"),
        row("1", "leftvote", left="blue", right="red", unique_key="swapped"),  # the same pictures on other sides
    )
    assert [bool(w) for w in whys(found)] == [True, True, False, True]
    assert all("contradictory" in w for w in whys(found) if w)


def test_a_tie_contradicts_a_preference(tmp_path: Path) -> None:
    assert all("contradictory" in w for w in whys(read(tmp_path, row("1"), row("1", "tie", unique_key="x"))))


def test_the_same_judgement_twice_is_kept_once(tmp_path: Path) -> None:
    swapped = row("1", "rightvote", left="blue", right="red")
    assert whys(read(tmp_path, row("1"), swapped)) == ["", "duplicate of train-00000.parquet:row 1"]


def test_one_id_for_two_judgements_takes_out_both(tmp_path: Path) -> None:
    found = read(tmp_path, row("1"), row("1", instruction="Something else.", left="lime"))
    assert all("the id '1-0'" in w for w in whys(found))


def test_rows_that_cannot_be_used_are_told_with_reasons(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        row("1", "maybe"),
        row("2", instruction=" "),
        row("3", left_output_image={"bytes": b"no picture", "path": None}),
        row("4", source_img={"bytes": None, "path": None}),
        row("5", left="red", right="red"),
        row("6"),
    )
    expected = ["unknown vote_type", "instruction is empty", "unreadable picture under left", "no picture under source"]
    expected.append("one of two identical edits")
    assert all(text in why for text, why in zip(expected, whys(found)[:5], strict=True))
    assert Counter(isinstance(r, BadRow) for r in found) == {True: 5, False: 1}


def test_the_licence_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="CC BY-NC"):
        read(tmp_path, row("1"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"instruction": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no column source_img, vote_type"):
        list(read_editreward_data(tmp_path))
    with pytest.raises(DataError, match="no Parquet file"):
        read_editreward_data(tmp_path / "nowhere")


def test_its_contexts_stand_once_each(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row("1"), row("1", left="lime"), row("2")]), tmp_path / "t.parquet")
    with pytest.warns(UserWarning, match="CC BY-NC"):
        source = open_editreward_data(tmp_path)
    checked = list(check_contexts(source.rows()))
    assert [type(c) for c in checked] == [CheckedContext, BadRow, CheckedContext]
