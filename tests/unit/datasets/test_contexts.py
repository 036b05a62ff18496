"""Contexts from the formats of others, made small, and what is quarantined of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from editr1.datasets.contexts import ContextRow, open_folder, open_imgedit, open_table
from editr1.datasets.edits import BadRow
from editr1.datasets.integrity import CheckedContext, check_contexts, picture_bytes
from editr1.errors import DataError, ImageError
from editr1.types import EditKind


def png(color: Any, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(buffer, format=kind)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def imgedit(tmp_path: Path) -> Path:
    """As the public data set is laid out: Parquet beside unpacked archives, single turns and dialogues."""
    for number in range(3):
        write(tmp_path / f"Singleturn/results_add_part0/{number}/original.png", png((number, 0, 0)))
    write(tmp_path / "Multiturn/results_memory_part0/7/origin_0.png", png("blue"))
    (tmp_path / "Parquet").mkdir()
    single = [
        {
            "input_images": [f"results_add_part0/{n}/original.png"],
            "output_images": [f"results_add_part0/{n}/result.png"],
            "prompt": f"Add {n} hats.",
        }
        for n in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(single), tmp_path / "Parquet/add_part0.parquet", row_group_size=2)
    turns = [
        {
            "input_images": [f"results_memory_part0/7/origin_{t}.png"],
            "output_images": [f"results_memory_part0/7/result_{t}.png"],
            "prompt": f"turn {t}",
        }
        for t in (0, 1)
    ]
    pq.write_table(pa.Table.from_pylist([{"data": turns}]), tmp_path / "Parquet/memory_part0.parquet")
    return tmp_path


def test_imgedit_and_the_first_turn_of_its_dialogues(imgedit: Path) -> None:
    source = open_imgedit(imgedit)
    assert len(source) == 5
    rows = list(source.rows())
    assert [r.instruction for r in rows] == ["Add 0 hats.", "Add 1 hats.", "Add 2 hats.", "Add 3 hats.", "turn 0"]
    assert [r.position for r in rows] == [0, 1, 2, 3, 4]
    assert rows[1].where == "add_part0.parquet:2"
    assert picture_bytes(rows[2].source) == png((2, 0, 0))
    assert picture_bytes(rows[4].source) == png("blue")
    checked = list(check_contexts(rows))
    assert isinstance(checked[3], BadRow)
    assert "unreadable" in checked[3].why  # the picture was not unpacked
    assert [type(c) for c in checked].count(CheckedContext) == 4


@pytest.mark.parametrize("positions", [[], [0], [3], [1, 4], [4, 2, 0], [2, 2]])
def test_positions_are_read_and_nothing_else(imgedit: Path, positions: list[int]) -> None:
    source = open_imgedit(imgedit)
    whole = list(source.rows())
    assert list(source.rows(positions)) == [whole[p] for p in sorted(set(positions))]


def test_a_folder_with_metadata(tmp_path: Path) -> None:
    write(tmp_path / "images/a.png", png("red"))
    write(tmp_path / "images/sub/b.png", png("lime"))
    lines = [
        {"prompt": "Make it blue.", "image": "a.png", "requirement": "blue all over"},
        {"prompt": "Make it grey.", "image": "images/sub/b.png", "requirement": None},
        "not JSON",
        {"prompt": " ", "image": "a.png"},
        {"prompt": "No picture."},
        {"prompt": " MAKE it  blue. ", "image": "images/a.png"},
    ]
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n\n" for line in lines)
    write(tmp_path / "train_metadata.jsonl", text.encode())
    source = open_folder(tmp_path)
    assert len(source) == 6
    rows = list(source.rows())
    assert isinstance(rows[0], ContextRow)
    assert (rows[0].requirement, rows[0].name, rows[1].name) == ("blue all over", "a", "b")
    assert picture_bytes(rows[1].source) == png("lime")
    assert [r.why.split(":")[0] for r in rows if isinstance(r, BadRow)] == [
        "not JSON",
        "the instruction is empty (' ')",
        "no picture",
    ]
    last = list(check_contexts(rows))[-1]
    assert isinstance(last, BadRow)
    assert last.why == "duplicate of train_metadata.jsonl:1"
    assert list(source.rows([1])) == [rows[1]]


@pytest.mark.parametrize("cell", ["bytes", "struct", "path"])
def test_a_table_in_the_form_of_datasets(tmp_path: Path, cell: str) -> None:
    write(tmp_path / "x.png", png("red"))
    cells: dict[str, Any] = {"bytes": png("red"), "struct": {"bytes": png("red"), "path": None}, "path": "x.png"}
    row = {"input_image": cells[cell], "instruction": "Go.", "task_type": "style_change", "other": 1}
    pq.write_table(pa.Table.from_pylist([row, row | {"task_type": "unheard of"}]), tmp_path / "t.parquet")
    rows = list(open_table(tmp_path / "t.parquet").rows())
    assert picture_bytes(rows[0].source) == png("red")
    assert [r.kind for r in rows] == [EditKind.STYLE, None]


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "prompt": datasets.Value("string")})
    rows = {"image": [Image.new("RGB", (4, 4), "red")], "prompt": ["Go."]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "d.parquet"))
    (row,) = open_table(tmp_path).rows()
    assert Image.open(io.BytesIO(picture_bytes(row.source))).getpixel((1, 1)) == (255, 0, 0)


def test_a_source_that_changed_has_another_fingerprint(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", b'{"image": "a.png", "prompt": "x"}\n')
    first = open_table(file).fingerprint
    assert open_table(file).fingerprint == first
    file.write_bytes(file.read_bytes() + b'{"image": "b.png", "prompt": "y"}\n')
    assert open_table(file).fingerprint != first


@pytest.mark.parametrize("opener", [open_imgedit, open_folder, open_table])
def test_a_source_that_is_not_there(tmp_path: Path, opener) -> None:
    with pytest.raises(DataError, match="no contexts at"):
        opener(tmp_path / "nowhere")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"broken\.parquet cannot be read"):
        open_table(write(tmp_path / "broken.parquet", b"PAR1 or not"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file"):
        open_table(tmp_path / "empty")


def test_a_jpeg_stays_the_file_it_is_and_others_become_png(tmp_path: Path) -> None:
    assert picture_bytes(png("red", "JPEG")) == png("red", "JPEG")
    assert picture_bytes(Image.new("RGB", (8, 6), "red")).startswith(b"\x89PNG")
    with pytest.raises(ImageError):
        picture_bytes(png("red")[:40])
