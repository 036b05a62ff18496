"""Contexts, i.e. pictures with an instruction each, from public and own formats.

    imgedit   a folder of ImgEdit (PKU-YuanGroup): `Parquet/*.parquet` with {"input_images", "output_images", "prompt"}
              and the pictures of its archives, unpacked. Of a dialogue of several turns the first is taken.
    folder    `images/` and `train_metadata.jsonl`, each line {"prompt", "image", "requirement"}
    editreward-data  contexts of TIGER-Lab/EditReward-Data (CC BY-NC 4.0: it warns), from its Parquet files
    table     JSONL or Parquet with a picture and an instruction in each row, under any of the usual names;
              in Parquet the picture may be a path, bytes, or the struct {bytes, path} of `datasets`

A source is read by position, so that a random subset of a large one costs no more than that subset. A row that cannot
be read is reported in its place, and the rest goes on.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from editr1.datasets.edits import BadRow
from editr1.errors import DataError
from editr1.types import EditKind, ImageLike

EDITREWARD_LICENCE = "TIGER-Lab/EditReward-Data is licensed CC BY-NC 4.0: for non-commercial use only"

SOURCE_COLUMNS = ("source", "source_img", "source_image", "input_image", "image", "src_img")
INSTRUCTION_COLUMNS = ("instruction", "prompt", "edit_prompt", "instruct_prompt")
KIND_COLUMNS = ("kind", "task_type", "edit_type")


_KINDS = frozenset(kind.value for kind in EditKind)


@dataclass(frozen=True, slots=True)
class ContextRow:
    """A picture and what is to be done with it.

    Attributes:
        position: of the row in its source.
        where: for messages, e.g. "train_metadata.jsonl:3".
        name: the picture's file name without its ending, or the position.
        requirement: what a finished edit must show, where the data say so.
    """

    position: int
    where: str
    name: str
    source: ImageLike
    instruction: str
    kind: EditKind | None = None
    requirement: str = ""


class ContextSource(Protocol):
    """Contexts that can be read by position.

    Attributes:
        name: for manifests.
        fingerprint: changes when the source does.
    """

    name: str
    fingerprint: str

    def __len__(self) -> int:
        """Number of rows, bad ones included."""
        ...

    def rows(self, positions: Collection[int] | None = None) -> Iterator[ContextRow | BadRow]:
        """The rows at these positions, or all, in the source's order."""
        ...


@dataclass(frozen=True, slots=True)
class _Picture:
    """What a row says about its context, before it is checked."""

    source: Any
    instruction: Any
    kind: Any = None
    requirement: Any = None


Layout = Callable[[Mapping[str, Any]], _Picture]


class FileContexts:
    """Contexts in JSONL and Parquet files.

    Args:
        name: for manifests.
        files: in order.
        layout: where a row keeps what.
        roots: folders that relative paths of pictures may start from; the first where the file is there wins.

    Raises:
        DataError: if a file is missing or cannot be read, or there is none.
    """

    def __init__(self, name: str, files: Sequence[Path], layout: Layout, roots: Sequence[Path]) -> None:
        if not files:
            raise DataError(f"{name}: no file of contexts was found")
        self.name = name
        self._files = list(files)
        self._layout = layout
        self._roots = list(roots)
        self._sizes = [_count(path) for path in self._files]
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._files]
        self.fingerprint = hashlib.sha256(json.dumps([name, stats]).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return sum(self._sizes)

    def rows(self, positions: Collection[int] | None = None) -> Iterator[ContextRow | BadRow]:
        """The rows at these positions, or all, in order; files without any of them are not opened."""
        wanted = None if positions is None else sorted(set(positions))
        start = 0
        for path, size in zip(self._files, self._sizes):
            here = None if wanted is None else [p - start for p in wanted if start <= p < start + size]
            if here is None or here:
                read = _parquet if path.suffix == ".parquet" else _jsonl
                for number, data in read(path, here):
                    yield self._row(start + number, f"{path.name}:{number + 1}", data)
            start += size

    def _row(self, position: int, where: str, data: Any) -> ContextRow | BadRow:
        try:
            if isinstance(data, Exception):
                raise DataError(str(data))
            if not isinstance(data, Mapping):
                raise DataError(f"a row must be an object, got {type(data).__name__}")
            found = self._layout(data)
            if not isinstance(found.instruction, str) or not found.instruction.strip():
                raise DataError(f"the instruction is empty ({found.instruction!r})")
            source, name = self._picture(found.source)
        except DataError as exc:
            return BadRow(where, str(exc))
        kind = found.kind if found.kind in _KINDS else None
        return ContextRow(
            position=position,
            where=where,
            name=name or str(position),
            source=source,
            instruction=found.instruction.strip(),
            kind=None if kind is None else EditKind(kind),
            requirement=str(found.requirement or ""),
        )

    def _picture(self, value: Any) -> tuple[ImageLike, str]:
        path = value.get("path") if isinstance(value, Mapping) else value
        stem = Path(path).stem if isinstance(path, str) else ""
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes) and value:
            return value, stem
        if isinstance(value, str) and value.strip():
            candidates = [root / value for root in self._roots]
            return next((c for c in candidates if c.is_file()), candidates[0]), stem
        raise DataError(f"the row names no picture ({str(value)[:60]!r})")


def open_imgedit(path: str | Path) -> FileContexts:
    """ImgEdit, as it is laid out when its archives are unpacked. See its card for the licence.

    Args:
        path: the folder that holds `Parquet/` and the unpacked `results_*` folders, the latter directly or under
            `Singleturn/` and `Multiturn/`; or one Parquet file among the pictures.
    """
    path = _existing(path)
    folder = path if path.is_dir() else path.parent
    files = sorted((path / "Parquet").glob("*.parquet")) or sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    roots = [folder, folder / "Singleturn", folder / "Multiturn", folder.parent]
    return FileContexts("ImgEdit", files, _imgedit_row, roots)


def open_folder(path: str | Path) -> FileContexts:
    """`images/` and `train_metadata.jsonl`, or the metadata file by itself if another is meant."""
    path = _existing(path)
    file = path / "train_metadata.jsonl" if path.is_dir() else path
    folder = file.parent
    return FileContexts(folder.name, [_existing(file)], _table_row, [folder, folder / "images"])


def open_table(path: str | Path) -> FileContexts:
    """A JSONL or Parquet file, or a folder of Parquet files."""
    path = _existing(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    folder = path if path.is_dir() else path.parent
    return FileContexts(path.stem, files, _table_row, [folder, folder / "images"])


def open_editreward_data(path: str | Path) -> FileContexts:
    """The contexts of TIGER-Lab/EditReward-Data: each stands in several rows, and the duplicates are quarantined."""
    warnings.warn(EDITREWARD_LICENCE, stacklevel=2)
    return open_table(path)


SOURCES: dict[str, Callable[[str | Path], FileContexts]] = {
    "imgedit": open_imgedit,
    "folder": open_folder,
    "editreward-data": open_editreward_data,
    "table": open_table,
}
"""Ways to open a source, by the name of its format."""


def _imgedit_row(data: Mapping[str, Any]) -> _Picture:
    turns = data.get("data")
    if isinstance(turns, Sequence) and turns and isinstance(turns[0], Mapping):
        data = turns[0]
    pictures: Sequence[Any] = data.get("input_images") or ()
    if len(pictures) != 1:
        raise DataError(f"{len(pictures)} input pictures: one is what an edit starts from")
    return _Picture(pictures[0], data.get("prompt"))


def _table_row(data: Mapping[str, Any]) -> _Picture:
    def first(names: Sequence[str], what: str) -> Any:
        found = next((data[name] for name in names if data.get(name) is not None), None)
        if found is None and what:
            raise DataError(f"no {what}: it is looked for under {', '.join(names)}, and there are {', '.join(data)}")
        return found

    return _Picture(
        first(SOURCE_COLUMNS, "picture"),
        first(INSTRUCTION_COLUMNS, "instruction"),
        first(KIND_COLUMNS, ""),
        data.get("requirement"),
    )


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"there are no contexts at {path}")
    return path


def _count(path: Path) -> int:
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            return int(parquet.read_metadata(path).num_rows)
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except (OSError, ValueError) as exc:  # pyarrow's own errors are ValueErrors too
        raise DataError(f"{path} cannot be read: {str(exc).splitlines()[0]}") from exc


def _jsonl(path: Path, wanted: Sequence[int] | None) -> Iterator[tuple[int, Any]]:
    chosen = None if wanted is None else set(wanted)
    with path.open("rb") as file:
        lines = (line.removeprefix(b"\xef\xbb\xbf").strip() for line in file)
        for number, line in enumerate(line for line in lines if line):
            if chosen is not None and number not in chosen:
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as exc:
                yield number, DataError(f"not JSON: {exc}")


def _parquet(path: Path, wanted: Sequence[int] | None) -> Iterator[tuple[int, Any]]:
    """Rows of a Parquet file; row groups without a wanted row are not read, one batch is held at a time."""
    from pyarrow import parquet

    known = {*SOURCE_COLUMNS, *INSTRUCTION_COLUMNS, *KIND_COLUMNS, "requirement", "input_images", "data"}
    with parquet.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name in known]
        start = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            here = None if wanted is None else {p - start for p in wanted if start <= p < start + size}
            if here is None or here:
                number = 0
                for batch in file.iter_batches(batch_size=32, row_groups=[group], columns=columns):
                    chosen = [i for i in range(batch.num_rows) if here is None or number + i in here]
                    for i, row in zip(chosen, batch.take(chosen).to_pylist() if chosen else ()):
                        yield start + number + i, row
                    number += batch.num_rows
            start += size
