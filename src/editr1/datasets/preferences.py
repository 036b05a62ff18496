"""Human preferences between two edits, as GCPO trains on them: Parquet with the pictures inside.

id           of the pair
source       picture, with bytes inside; `datasets` shows it as an image
preferred    the edit that the annotator preferred; with `same`, either one
other        the other edit
instruction  what was to be done
principles   list of {question, category}; empty where none were found
same         true if the annotator saw no difference: kept, but neither trained nor measured on
annotator    who said so; simulated ones begin with "simulated:"
kind         kind of edit, if known
context      hash of the source picture's file: what the pairs are split by

A folder of preferences holds train.parquet, heldout.parquet, manifest.json and rejects.jsonl;
`preference_import` checks pairs and writes it. The benchmark `preference` of `editr1 eval` reads the same columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from editr1.datasets.edits import BadRow, parse_principles
from editr1.errors import DataError
from editr1.types import EditKind, EditTask, PreferencePair

SIMULATED = "simulated:"
ROW_GROUP = 16
"""Pairs that are compressed together: what is held in memory at a time."""


def read_preferences(path: str | Path) -> Iterator[PreferencePair]:
    """All pairs of a Parquet file as above, "same" included, pictures as bytes.

    Raises:
        DataError: if it cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    path = Path(path)
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                yield from (pair_of_row(row) for row in batch.to_pylist())
    except (pyarrow.ArrowException, OSError) as exc:
        raise DataError(f"{path} cannot be read as preference pairs: {str(exc).splitlines()[0]}") from exc


def pair_of_row(row: Mapping[str, Any]) -> PreferencePair:
    """A row of the Parquet file as a pair."""
    kind = row.get("kind")
    task = EditTask(
        id=row["id"],
        source=row["source"]["bytes"],
        instruction=row["instruction"],
        principles=parse_principles(row["principles"]),
        kind=EditKind(kind) if kind else None,
    )
    return PreferencePair(task, row["preferred"]["bytes"], row["other"]["bytes"], row["same"], row["annotator"])


def read_marks(path: str | Path) -> Iterator[PreferencePair | BadRow]:
    """Marks of annotators from JSONL, one a line.

        {"source": "a.png", "instruction": "...", "first": "b.png", "second": "c.png", "mark": "first"}

    `mark` is "first", "second" or "same"; paths start from the file's folder. Optional: `id`, `annotator`, `kind`,
    `principles`. A line that cannot be read is reported in its place.

    Raises:
        DataError: if there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there are no marks at {path}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path.name}:{number}"
                try:
                    yield _mark(json.loads(line.removeprefix(b"\xef\xbb\xbf")), where, path.parent)
                except (ValueError, RecursionError) as exc:  # DataError among them
                    yield BadRow(where, str(exc) if isinstance(exc, DataError) else f"not JSON: {exc}")


def _mark(data: Any, where: str, folder: Path) -> PreferencePair:
    if not isinstance(data, Mapping):
        raise DataError(f"a mark must be an object, got {type(data).__name__}")
    needed = ("source", "instruction", "first", "second", "mark")
    if lacking := [key for key in needed if not isinstance(data.get(key), str)]:
        raise DataError(f"the mark has no text under {', '.join(lacking)}")
    if data["mark"] not in ("first", "second", "same"):
        raise DataError(f"mark must be first, second or same, got {data['mark']!r}")
    kind = data.get("kind")
    if kind and kind not in set(EditKind):
        raise DataError(f"unknown kind {kind!r}: use one of {', '.join(EditKind)}")
    task = EditTask(
        id=str(data.get("id") or where),
        source=folder / data["source"],
        instruction=data["instruction"],
        principles=parse_principles(data.get("principles")),
        kind=EditKind(kind) if kind else None,
    )
    first, second = folder / data["first"], folder / data["second"]
    preferred, other = (second, first) if data["mark"] == "second" else (first, second)
    return PreferencePair(task, preferred, other, data["mark"] == "same", str(data.get("annotator") or ""))


class PreferenceTable:
    """A Parquet file that grows by row groups, and takes its name when it is whole.

    Attributes:
        rows: pairs that were added; `same`: how many of them are marked so.
    """

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._path, self._partial = path, path.with_name(f".{path.name}.partial")
        self._schema = _schema()
        self._writer = parquet.ParquetWriter(self._partial, self._schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []
        self.rows = self.same = 0

    def add(self, row: dict[str, Any]) -> None:
        """One more pair, in the columns above."""
        self._waiting.append(row)
        self.rows += 1
        self.same += row["same"]
        if len(self._waiting) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is waiting; no pair can be added after."""
        self._flush()
        self._writer.close()

    def publish(self) -> None:
        """Give the closed file its name, in place of one that has it."""
        self._partial.replace(self._path)

    def _flush(self) -> None:
        import pyarrow

        if self._waiting:
            self._writer.write_table(pyarrow.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []


def _schema() -> Any:
    """Columns, and their features as `datasets` keeps them in a file."""
    import pyarrow

    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    principle = pyarrow.struct([("question", pyarrow.string()), ("category", pyarrow.string())])
    text = {"dtype": "string", "_type": "Value"}
    columns: dict[str, tuple[Any, Any]] = {
        "id": (pyarrow.string(), text),
        "source": (picture, {"_type": "Image"}),
        "preferred": (picture, {"_type": "Image"}),
        "other": (picture, {"_type": "Image"}),
        "instruction": (pyarrow.string(), text),
        "principles": (pyarrow.list_(principle), {"feature": {"question": text, "category": text}, "_type": "List"}),
        "same": (pyarrow.bool_(), {"dtype": "bool", "_type": "Value"}),
        "annotator": (pyarrow.string(), text),
        "kind": (pyarrow.string(), text),
        "context": (pyarrow.string(), text),
    }
    schema = pyarrow.schema([(name, kind) for name, (kind, _) in columns.items()])
    features = {name: feature for name, (_, feature) in columns.items()}
    return schema.with_metadata({b"huggingface": json.dumps({"info": {"features": features}})})
