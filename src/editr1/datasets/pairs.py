"""Preference pairs from public data sets, with contradictions taken out.

**TIGER-Lab/EditReward-Data**: 170,772 rows, CC BY-NC 4.0, that is for non-commercial use only. (Two data sets are
called "EditReward-Bench"; this is the training set of TIGER-Lab's.) Duplicate ids with opposite labels have been
reported: pairs that are labelled in more than one way are quarantined, all of them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editr1.datasets.contexts import EDITREWARD_LICENCE
from editr1.datasets.edits import BadRow
from editr1.datasets.integrity import picture_bytes
from editr1.errors import DataError, ImageError
from editr1.types import EditTask, PreferencePair

_VOTES = {"leftvote": "left", "rightvote": "right", "tie": "same", "tievote": "same"}
_COLUMNS = (
    "key",
    "unique_key",
    "pair_index",
    "instruction",
    "source_img",
    "left_output_image",
    "right_output_image",
    "left_model",
    "right_model",
    "vote_type",
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A row that can be used, and the names under which its label is compared with others'.

    Attributes:
        label: "left", "right" or "same"; `oriented` is the same, told by the pictures and not by their sides.
    """

    where: str
    id: str
    content: str
    label: str
    oriented: str
    pair: PreferencePair


def read_editreward_data(path: str | Path) -> Iterator[PreferencePair | BadRow]:
    """Read EditReward-Data from a Parquet file or a folder of them; bad rows are reported in their place.

    Every row is read twice: once to find contradictions, once to hand it out. Pictures are held one row at a time.

    Raises:
        DataError: if there is no such file, or it has other columns.
    """
    warnings.warn(EDITREWARD_LICENCE, stacklevel=2)
    path = Path(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"there is no Parquet file of EditReward-Data at {path}")
    return _consistent(files)


def _consistent(files: list[Path]) -> Iterator[PreferencePair | BadRow]:
    by_id: dict[str, set[str]] = {}
    by_content: dict[str, set[str]] = {}
    for row in _rows(files):
        if isinstance(row, _Pair):
            by_id.setdefault(row.id, set()).add(row.oriented)
            by_content.setdefault(row.content, set()).add(row.oriented)
    seen: dict[str, str] = {}
    for row in _rows(files):
        if isinstance(row, BadRow):
            yield row
        elif len(by_content[row.content]) > 1:
            yield BadRow(row.where, "contradictory labels: the same two edits were judged otherwise in another row")
        elif len(by_id[row.id]) > 1:
            yield BadRow(row.where, f"contradictory labels: the id {row.id!r} stands for several judgements")
        elif row.content in seen:
            yield BadRow(row.where, f"duplicate of {seen[row.content]}")
        else:
            seen[row.content] = row.where
            yield row.pair


def _rows(files: list[Path]) -> Iterator[_Pair | BadRow]:
    import pyarrow
    from pyarrow import parquet

    for path in files:
        number = 0
        try:
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                if lacking := [c for c in ("instruction", "source_img", "vote_type") if c not in names]:
                    raise DataError(f"{path} is not of EditReward-Data: it has no column {', '.join(lacking)}")
                columns = [name for name in names if name in _COLUMNS]
                for batch in file.iter_batches(batch_size=16, columns=columns):
                    for data in batch.to_pylist():
                        number += 1
                        where = f"{path.name}:row {number}"
                        try:
                            yield _read(data, where)
                        except (DataError, ImageError) as exc:
                            yield BadRow(where, str(exc))
        except (pyarrow.ArrowException, OSError) as exc:
            raise DataError(f"{path} cannot be read as Parquet: {str(exc).splitlines()[0]}") from exc


def _read(data: Mapping[str, Any], where: str) -> _Pair:
    instruction, vote = data.get("instruction"), data.get("vote_type")
    if not isinstance(instruction, str) or not instruction.strip():
        raise DataError(f"the instruction is empty ({instruction!r})")
    if vote not in _VOTES:
        raise DataError(f"unknown vote_type {vote!r}: known are {', '.join(_VOTES)}")
    source, left, right = (_picture(data, c) for c in ("source_img", "left_output_image", "right_output_image"))
    digests = {side: hashlib.sha256(picture).hexdigest() for side, picture in (("left", left), ("right", right))}
    if digests["left"] == digests["right"] and vote in ("leftvote", "rightvote"):
        raise DataError("contradictory label: one of two identical edits was preferred")
    content = hashlib.sha256(hashlib.sha256(source).digest() + instruction.encode("utf-8", "replace"))
    content.update("".join(sorted(digests.values())).encode())
    label = _VOTES[vote]
    identity = str(data.get("unique_key") or f"{data.get('key')}/{data.get('pair_index')}")
    task = EditTask(str(data.get("key") or identity), source, instruction)
    preferred, other = (right, left) if label == "right" else (left, right)
    pair = PreferencePair(task, preferred, other, same=label == "same", annotator="TIGER-Lab/EditReward-Data")
    return _Pair(where, identity, content.hexdigest(), label, digests.get(label, "same"), pair)


def _picture(data: Mapping[str, Any], column: str) -> bytes:
    value = data.get(column)
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, bytes | str) or not value:
        raise DataError(f"no picture under {column}")
    try:
        return picture_bytes(value)
    except ImageError as exc:
        raise DataError(f"unreadable picture under {column}: {exc}") from exc
