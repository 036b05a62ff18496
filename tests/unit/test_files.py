"""Atomic writing: the old content or the new one, and no litter."""

from __future__ import annotations

from pathlib import Path

import pytest

from editr1.files import repair_tail, write_atomic, write_json


def test_text_bytes_and_json_are_written_and_folders_made(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "x" / "a.txt", "ä\n").read_bytes() == "ä\n".encode()
    assert write_atomic(tmp_path / "x" / "a.txt", b"\x00").read_bytes() == b"\x00"
    assert write_json(tmp_path / "b.json", {"ä": [1]}).read_text(encoding="utf-8") == '{\n  "ä": [\n    1\n  ]\n}\n'


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomic(tmp_path / "a.txt", "old")

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("before", "after", "cut"),
    [
        (b"", b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n', b""),
        (b'{"a": 1}\n{"b"', b'{"a": 1}\n', b'{"b"'),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n', b""),
        (b'{"a', b"", b'{"a'),
    ],
)
def test_a_torn_last_line_is_cut_off(tmp_path: Path, before: bytes, after: bytes, cut: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(before)
    assert repair_tail(path) == cut
    assert path.read_bytes() == after


def test_nothing_to_repair_in_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert repair_tail(tmp_path / "a.jsonl") == b""
    assert not (tmp_path / "a.jsonl").exists()
