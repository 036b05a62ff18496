"""Records on disk: Parquet, pictures inside, one file for a stage's work on one shard.

A file holds what its stage added, and the id of the record that it was added to; reading joins them again. Each is
readable by `datasets`, which finds its pictures by the features in the file's metadata. Files are written at once or
not at all.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from editr1.curation.records import Chosen, Context, Decomposed, Edit, Traced, Verified
from editr1.errors import DataError
from editr1.files import write_atomic
from editr1.types import Check, EditKind, EditVerdict, Principle, Trace

META = b"editr1"
ROW_GROUP = 64
"""Rows that are compressed together: what a reader holds at a time."""

_IMAGE = {"bytes": "binary", "path": "string"}
_PRINCIPLE = {"question": "string", "category": "string"}

# Columns of each stage. A dict is a struct, a list of one thing a list; `_IMAGE` is a picture.
COLUMNS: dict[str, dict[str, Any]] = {
    "select": {
        "id": "string",
        "source": _IMAGE,
        "instruction": "string",
        "origin": "string",
        "name": "string",
        "kind": "string",
        "subset": "string",
        "reason": "string",
    },
    "decompose": {"id": "string", "parent": "string", "principles": [_PRINCIPLE]},
    "edit": {"id": "string", "parent": "string", "editor": "string", "edited": _IMAGE, "job": "string"},
    "trace": {
        "id": "string",
        "parent": "string",
        "traces": [
            {"text": "string", "judge": "string", "variant": "string", "temperature": "float64", "verdict": "string"}
        ],
    },
    "verify": {"id": "string", "parent": "string", "gold": [{"met": "bool", "reason": "string"}]},
    "choose": {"id": "string", "parent": "string", "index": "int64", "accuracy": "float64"},
}


def image(data: bytes) -> dict[str, Any]:
    """A picture as a cell."""
    return {"bytes": data, "path": None}


def write_table(
    path: Path, columns: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]
) -> Path:
    """Write rows as Parquet, atomically; the same rows and meta give the same bytes.

    Args:
        path: of the file.
        columns: names and types, as in COLUMNS.
        rows: with these keys.
        meta: JSON-ready, kept in the file; `read_meta` gives it back.
    """
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(name, _arrow(kind)) for name, kind in columns.items()])
    features = {name: _feature(kind) for name, kind in columns.items()}
    schema = schema.with_metadata(
        {
            META: json.dumps(meta, sort_keys=True),
            b"huggingface": json.dumps({"info": {"features": features}}),
        }
    )
    buffer = io.BytesIO()
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    parquet.write_table(table, buffer, compression="zstd", row_group_size=ROW_GROUP)
    return write_atomic(path, buffer.getvalue())


def read_meta(path: Path) -> dict[str, Any]:
    """What `write_table` was given as meta.

    Raises:
        DataError: if the file is none of ours.
    """
    from pyarrow import parquet

    try:
        found = (parquet.read_schema(path).metadata or {}).get(META)
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} cannot be read: {str(exc).splitlines()[0]}; delete it to have it made anew") from exc
    if found is None:
        raise DataError(f"{path} was not written by editr1's curation: delete it, or use another folder")
    meta: dict[str, Any] = json.loads(found)
    return meta


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """All rows of a file.

    Raises:
        DataError: if it cannot be read.
    """
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, columns=None if columns is None else list(columns))
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} cannot be read: {str(exc).splitlines()[0]}; delete it to have it made anew") from exc
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def read_ids(path: Path) -> list[str]:
    """The ids of a file's records, without reading the rest."""
    return [row["id"] for row in read_rows(path, ["id"])]


def to_row(record: Any) -> dict[str, Any]:
    """What a record's stage added, as a row."""
    return _TO_ROW[type(record)](record)


def load_records(stage: str, files: Mapping[str, Path]) -> list[Any]:
    """The records of a stage, whole: joined with all that came before.

    Args:
        stage: of COLUMNS.
        files: this shard's file of that stage and of those before.

    Raises:
        DataError: if a record's parent is not there.
    """
    if stage == "select":
        return [_context(row) for row in read_rows(files["select"])]
    stages = list(COLUMNS)
    before = load_records(stages[stages.index(stage) - 1], files)
    parents = {record.id: record for record in before}
    records = []
    for row in read_rows(files[stage]):
        if row["parent"] not in parents:
            raise DataError(f"{files[stage]} does not belong to the files before it: delete it to have it made anew")
        records.append(_FROM_ROW[stage](row, parents[row["parent"]]))
    return records


def _context(row: Mapping[str, Any]) -> Context:
    kind = row["kind"]
    rest = {key: row[key] for key in ("id", "instruction", "origin", "name", "subset", "reason")}
    return Context(source=row["source"]["bytes"], kind=None if kind is None else EditKind(kind), **rest)


def _context_row(c: Context) -> dict[str, Any]:
    kind = None if c.kind is None else c.kind.value
    rest = {key: getattr(c, key) for key in ("id", "instruction", "origin", "name", "subset", "reason")}
    return {"source": image(c.source), "kind": kind, **rest}


def _decomposed(row: Mapping[str, Any], parent: Context) -> Decomposed:
    return Decomposed(row["id"], parent, tuple(Principle.from_dict(p) for p in row["principles"]))


def _edit(row: Mapping[str, Any], parent: Decomposed) -> Edit:
    return Edit(row["id"], parent, row["editor"], row["edited"]["bytes"], row["job"])


def _traced(row: Mapping[str, Any], parent: Edit) -> Traced:
    traces = tuple(
        Trace(
            parent.id,
            t["text"],
            EditVerdict.from_dict(json.loads(t["verdict"])),
            t["judge"],
            t["variant"],
            t["temperature"],
        )
        for t in row["traces"]
    )
    return Traced(row["id"], parent, traces)


def _traced_row(r: Traced) -> dict[str, Any]:
    traces = [
        {
            "text": t.text,
            "judge": t.judge,
            "variant": t.variant,
            "temperature": t.temperature,
            "verdict": json.dumps(t.verdict.to_dict(), ensure_ascii=False),
        }
        for t in r.traces
    ]
    return {"id": r.id, "parent": r.edit.id, "traces": traces}


def _verified(row: Mapping[str, Any], parent: Traced) -> Verified:
    principles = parent.edit.principles
    gold = tuple(Check(p, g["met"], g["reason"]) for p, g in zip(principles, row["gold"], strict=True))
    return Verified(row["id"], parent, gold)


def _chosen(row: Mapping[str, Any], parent: Verified) -> Chosen:
    return Chosen(row["id"], parent, row["index"], row["accuracy"])


_TO_ROW: dict[type, Callable[[Any], dict[str, Any]]] = {
    Context: _context_row,
    Decomposed: lambda r: {
        "id": r.id,
        "parent": r.context.id,
        "principles": [p.to_dict() for p in r.principles],
    },
    Edit: lambda r: {
        "id": r.id,
        "parent": r.decomposed.id,
        "editor": r.editor,
        "edited": image(r.edited),
        "job": r.job,
    },
    Traced: _traced_row,
    Verified: lambda r: {
        "id": r.id,
        "parent": r.traced.id,
        "gold": [{"met": c.met, "reason": c.reason} for c in r.gold],
    },
    Chosen: lambda r: {"id": r.id, "parent": r.verified.id, "index": r.index, "accuracy": r.accuracy},
}
_FROM_ROW: dict[str, Callable[[Mapping[str, Any], Any], Any]] = {
    "decompose": _decomposed,
    "edit": _edit,
    "trace": _traced,
    "verify": _verified,
    "choose": _chosen,
}


def _arrow(kind: Any) -> Any:
    import pyarrow

    if isinstance(kind, list):
        return pyarrow.list_(_arrow(kind[0]))
    if isinstance(kind, dict):
        return pyarrow.struct([(name, _arrow(inner)) for name, inner in kind.items()])
    return {
        "string": pyarrow.string(),
        "binary": pyarrow.binary(),
        "bool": pyarrow.bool_(),
        "int64": pyarrow.int64(),
        "float64": pyarrow.float64(),
    }[kind]


def _feature(kind: Any) -> dict[str, Any]:
    """A column's type as `datasets` writes it into a file's metadata."""
    if kind is _IMAGE:
        return {"_type": "Image"}
    if isinstance(kind, list):
        return {"feature": _feature(kind[0]), "_type": "List"}
    if isinstance(kind, dict):
        return {name: _feature(inner) for name, inner in kind.items()}
    return {"dtype": kind, "_type": "Value"}


IMAGE = _IMAGE
PRINCIPLES = [_PRINCIPLE]
