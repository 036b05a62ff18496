"""Edits to be judged, from a JSONL or Parquet file: one row an edit.

    id           optional; a hash of the row's content if absent
    source       path, relative to the file's folder; in Parquet also bytes, or the struct {bytes, path} of `datasets`
    edited       likewise
    instruction  what was to be done
    principles   optional list of {"question", "category"}
    kind         optional, one of the 11 task types of GEdit-Bench
    editor       optional, who made the edit
    truth        optional, what a simulation knows: {"utility", "checks", "faults"}

Other columns are left alone. A row that cannot be read is reported in its place, and the rest goes on.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editr1.errors import DataError
from editr1.types import EditKind, EditTask, ImageLike, Principle, Quadruple

_KEYS = ("id", "source", "edited", "instruction", "principles", "kind", "editor", "truth")
_PARQUET_BATCH = 32


@dataclass(frozen=True, slots=True)
class EditRow:
    """A row that can be judged.

    Attributes:
        id: unique in its file.
        where: for messages, e.g. "edits.jsonl:3".
        quadruple: what the verifier is given; its task carries the row's id.
        truth: what is known of the edit, if anything.
    """

    id: str
    where: str
    quadruple: Quadruple
    truth: Mapping[str, Any] | None = None

    def as_item(self) -> dict[str, Any]:
        """The mapping that `Verifier.score_many` takes: its verdict then carries the row's id."""
        task = self.quadruple.task
        return {
            "id": self.id,
            "source": task.source,
            "edited": self.quadruple.edited,
            "instruction": task.instruction,
            "principles": task.principles,
        }


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be judged, and why, in half a sentence."""

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


def read_edits(path: str | Path) -> Iterator[EditRow | BadRow]:
    """Read a file of edits row by row; pictures are not opened yet.

    A second row with an id that was there already is a `BadRow`: verdicts are told apart by id.

    Raises:
        DataError: if the file is missing, is neither JSONL nor Parquet, or cannot be read as what it claims to be.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file of edits at {path}")
    if path.suffix == ".parquet":
        rows = _parquet_rows(path)
    elif path.suffix in (".jsonl", ".ndjson"):
        rows = _jsonl_rows(path)
    else:
        raise DataError(f"{path} is neither .jsonl nor .parquet: edits are read from these two")
    return _checked(rows, path.parent)


def count_rows(path: str | Path) -> int:
    """How many rows a readable file of edits has, for a progress bar."""
    path = Path(path)
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return int(parquet.read_metadata(path).num_rows)
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def edit_row(data: Any, *, where: str, folder: Path = Path()) -> EditRow:
    """Check one row.

    Args:
        data: the row.
        where: for messages.
        folder: that relative paths start from.

    Raises:
        DataError: if a key is missing, or holds what it must not; the message does not repeat `where`.
    """
    if not isinstance(data, Mapping):
        raise DataError(f"a row must be an object with keys {', '.join(_KEYS[1:4])}, got {_short(data)}")
    source, edited = (_picture(data, key, folder) for key in ("source", "edited"))
    instruction = _required(data, "instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        raise DataError(f"the instruction must say what the edit was meant to do, got {_short(instruction)}")
    kind, truth, identity = data.get("kind"), data.get("truth"), data.get("id")
    if truth is not None and not isinstance(truth, Mapping):
        raise DataError(f"'truth' must be an object, got {_short(truth)}")
    identity = _content_hash(data) if identity in (None, "") else str(identity)
    try:
        edit_kind = None if kind in (None, "") else EditKind(kind)
    except ValueError as exc:
        raise DataError(f"unknown kind {kind!r}: use one of {', '.join(EditKind)}") from exc
    task = EditTask(identity, source, instruction, parse_principles(data.get("principles")), edit_kind)
    return EditRow(identity, where, Quadruple(task, edited, str(data.get("editor") or "")), truth)


def parse_principles(data: Any) -> tuple[Principle, ...] | None:
    """Principles from a list of {"question", "category"}; None for None or an empty list.

    Raises:
        DataError: if it is anything else.
    """
    if data is None:
        return None
    if not isinstance(data, list | tuple):
        raise DataError(f"principles must be a list of {{question, category}}, got {_short(data)}")
    try:
        return tuple(Principle.from_dict(item) for item in data) or None
    except ValueError as exc:
        raise DataError(str(exc)) from exc


def read_principles(path: str | Path) -> tuple[Principle, ...]:
    """Principles from a JSON file: a list, or an object with the list under "principles".

    Raises:
        DataError: if the file cannot be read or holds no principles.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise DataError(f"cannot read the principles in {path}: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise DataError(f"{path} is not JSON: {exc}") from exc
    if isinstance(data, Mapping):
        data = data.get("principles")
    try:
        principles = parse_principles(data)
    except DataError as exc:
        raise DataError(f"{path}: {exc}") from exc
    if principles is None:
        raise DataError(f"{path} holds no principles: it must be a list of {{question, category}}")
    return principles


def _checked(rows: Iterator[tuple[str, Any]], folder: Path) -> Iterator[EditRow | BadRow]:
    seen: dict[str, str] = {}
    for where, data in rows:
        try:
            if isinstance(data, Exception):
                raise DataError(str(data))
            row = edit_row(data, where=where, folder=folder)
            if row.id in seen:
                raise DataError(f"the id {row.id!r} was there already, at {seen[row.id]}")
        except DataError as exc:
            yield BadRow(where, str(exc))
        else:
            seen[row.id] = where
            yield row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Where and what of each line; for a line that is no JSON, the reason as an exception."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path.name}:{number}"
            if not (text := line.removeprefix(b"\xef\xbb\xbf").strip()):
                continue
            try:
                yield where, json.loads(text)
            except (ValueError, RecursionError) as exc:
                yield where, DataError(f"not JSON: {exc}")


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in _KEYS]
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}:row {number}", row
    except (pyarrow.ArrowException, OSError) as exc:
        raise DataError(f"{path} cannot be read as Parquet: {str(exc).splitlines()[0]}") from exc


def _picture(data: Mapping[str, Any], key: str, folder: Path) -> ImageLike:
    value = _required(data, key)
    if isinstance(value, Mapping):  # the Image feature of `datasets`: bytes if embedded, else a path
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if isinstance(value, str) and value.strip():
        return folder / value
    raise DataError(f"'{key}' must be the path of a picture, got {_short(data[key])}")


def _required(data: Mapping[str, Any], key: str) -> Any:
    if key in data:
        return data[key]
    strangers = [str(name) for name in data if name not in _KEYS]
    near = difflib.get_close_matches(key, strangers, n=1)
    raise DataError(f"'{key}' is missing" + (f": is it the '{near[0]}' that is there?" if near else ""))


def _content_hash(data: Mapping[str, Any]) -> str:
    """16 hex digits that depend on what a row says, not on the order of its keys or its place in the file."""
    content = {key: data[key] for key in sorted(data) if key in _KEYS and data[key] is not None}
    text = json.dumps(content, sort_keys=True, default=_fingerprint)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
