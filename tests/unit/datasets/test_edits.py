"""Files of edits: what is read, what is refused, and that one bad row harms no other."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from editr1.datasets import BadRow, EditRow, count_rows, edit_row, read_edits, read_principles
from editr1.errors import DataError
from editr1.types import Category, EditKind, Principle

ROW = {"source": "a.png", "edited": "b.png", "instruction": "make it red"}


def jsonl(folder: Path, *lines: Any) -> Path:
    path = folder / "edits.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def only_row(path: Path) -> EditRow:
    (row,) = read_edits(path)
    assert isinstance(row, EditRow), row
    return row


def test_a_full_row(tmp_path: Path) -> None:
    principles = [{"question": "Is it red?", "category": "Follow"}]
    extra = {"id": 7, "principles": principles, "kind": "color_alter", "editor": "kontext", "truth": {"utility": 3}}
    row = only_row(jsonl(tmp_path, ROW | extra | {"split": "ignored"}))
    assert (row.id, row.where, row.truth) == ("7", "edits.jsonl:1", {"utility": 3})
    assert row.quadruple.editor == "kontext"
    assert row.quadruple.edited == tmp_path / "b.png"
    assert row.quadruple.task.kind is EditKind.COLOR
    assert row.as_item() == {
        "id": "7",
        "source": tmp_path / "a.png",
        "edited": tmp_path / "b.png",
        "instruction": "make it red",
        "principles": (Principle("Is it red?", Category.FOLLOW),),
    }


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    row = edit_row(ROW | {"source": str(tmp_path / "x.png")}, where="", folder=Path("elsewhere"))
    assert row.quadruple.task.source == tmp_path / "x.png"


def test_an_id_is_made_from_the_content_alone() -> None:
    first = edit_row(ROW, where="f:1")
    assert first.id == edit_row(dict(reversed(ROW.items())) | {"note": "x"}, where="g:9").id
    assert first.id != edit_row(ROW | {"instruction": "make it blue"}, where="f:1").id
    assert first.id != edit_row(ROW | {"edited": "c.png"}, where="f:1").id


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{oops", "not JSON"),
        ("[1, 2]", "a row must be an object"),
        ({"source": "a.png", "edited": "b.png"}, "'instruction' is missing"),
        ({"source": "a.png", "edited": "b.png", "instructon": "x"}, "is it the 'instructon' that is there?"),
        (ROW | {"instruction": "  "}, "the instruction must say"),
        (ROW | {"instruction": 5}, "the instruction must say"),
        (ROW | {"source": ""}, "'source' must be the path of a picture"),
        (ROW | {"edited": None}, "'edited' must be the path of a picture, got None"),
        (ROW | {"kind": "dance"}, "unknown kind 'dance'"),
        (ROW | {"principles": "Is it red?"}, "principles must be a list"),
        (ROW | {"principles": [{"question": "Is it red?"}]}, "needs 'question' and 'category'"),
        (ROW | {"principles": [{"question": "Is it red?", "category": "Beauty"}]}, "unknown principle category"),
        (ROW | {"truth": 3}, "'truth' must be an object"),
        (ROW | {"id": "good"}, "the id 'good' was there already, at edits.jsonl:1"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_row_says_why_and_where_and_the_rest_goes_on(tmp_path: Path, line: Any, why: str) -> None:
    good, bad, last = read_edits(jsonl(tmp_path, ROW | {"id": "good"}, line, ROW | {"id": "last"}))
    assert isinstance(bad, BadRow)
    assert bad.where == "edits.jsonl:2"
    assert why in bad.why
    assert [row.id for row in (good, last) if isinstance(row, EditRow)] == ["good", "last"]


def test_blank_lines_a_byte_order_mark_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\n\n  \n\xff\xfe{}\n")
    good, bad = read_edits(path)
    assert isinstance(good, EditRow)
    assert isinstance(bad, BadRow)
    assert bad.where == "edits.jsonl:4"
    assert count_rows(path) == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file of edits at .*nowhere.jsonl"):
        list(read_edits(tmp_path / "nowhere.jsonl"))
    (tmp_path / "edits.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"neither .jsonl nor .parquet"):
        list(read_edits(tmp_path / "edits.csv"))
    (tmp_path / "edits.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"edits.parquet cannot be read as Parquet: "):
        list(read_edits(tmp_path / "edits.parquet"))


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_parquet_with_image_structs_as_datasets_writes_them(tmp_path: Path) -> None:
    rows = [
        {"id": None, "source": {"bytes": png("red"), "path": "x.png"}, "edited": {"bytes": None, "path": "b.png"}},
        {"id": None, "source": {"bytes": png("blue"), "path": None}, "edited": {"bytes": png("red"), "path": None}},
        {"id": "z", "source": {"bytes": None, "path": None}, "edited": {"bytes": png("red"), "path": None}},
    ]
    principles = [{"question": "Is it red?", "category": "Quality"}]
    table = pa.Table.from_pylist([row | {"instruction": "redden", "principles": principles} for row in rows])
    pq.write_table(table, tmp_path / "edits.parquet")
    first, second, third = read_edits(tmp_path / "edits.parquet")
    assert isinstance(first, EditRow)
    assert isinstance(second, EditRow)
    assert first.quadruple.task.source == png("red")
    assert first.quadruple.edited == tmp_path / "b.png"
    assert first.quadruple.task.principles == (Principle("Is it red?", Category.QUALITY),)
    assert first.where == "edits.parquet:row 1"
    assert first.id != second.id
    assert isinstance(third, BadRow)
    assert "'source' must be the path of a picture" in third.why
    assert count_rows(tmp_path / "edits.parquet") == 3


def test_parquet_with_plain_columns_reads_only_what_it_needs(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ROW | {"edited": png("red"), "unrelated": 1}])
    pq.write_table(table, tmp_path / "edits.parquet")
    row = only_row(tmp_path / "edits.parquet")
    assert (row.quadruple.task.source, row.quadruple.edited) == (tmp_path / "a.png", png("red"))


def test_principles_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "principles.json"
    items = [{"question": "Is it red?", "category": "Instruction Following"}]
    for content in (items, {"principles": items}):
        path.write_text(json.dumps(content))
        assert read_principles(path) == (Principle("Is it red?", Category.FOLLOW),)
    for content, why in (
        ("{", "is not JSON"),
        ("[]", "holds no principles"),
        ("3", "must be a list"),
        ("[3]", "needs"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=why):
            read_principles(path)
    with pytest.raises(DataError, match="cannot read the principles in .*: No such file"):
        read_principles(tmp_path / "nowhere.json")
