"""Rows of a published data set: from a local folder or file of Parquet, Arrow or JSONL, or from the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editr1.errors import DataError, MissingExtraError

_BATCH = 16
_SUFFIXES = (".parquet", ".arrow", ".jsonl")
_SHARD = re.compile(r"-\d+(-of-\d+)?$")


@dataclass(frozen=True, slots=True)
class Row:
    """A row, or why there is none.

    Attributes:
        where: for messages, e.g. "test-00000.parquet:row 7".
        root: that relative paths of pictures start from.
        data: the row; None if it could not be read.
        error: why not.
    """

    where: str
    root: Path
    data: Mapping[str, Any] | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class HubSource:
    """Where a data set lies on the hub, as `datasets.load_dataset` takes it; None for `split` means all splits."""

    repository: str
    config: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A data set to read.

    Attributes:
        name: path or repository, for manifests.
        revision: commit on the hub; None for local files, whose content is hashed when they are read.
        files: of a local data set, in order; `root` is the folder that was named, if it was one.
    """

    name: str
    revision: str | None
    files: tuple[Path, ...] = ()
    hub: HubSource | None = None
    root: Path | None = None

    def rows(self) -> Iterator[Row]:
        """All rows, in order, a few at a time in memory.

        Raises:
            DataError: if a file is not what its name says.
            MissingExtraError: if a hub data set is asked for without `datasets`.
        """
        if self.hub is not None:
            yield from _hub_rows(self.hub, self.revision)
            return
        for file in self.files:
            name = file.name if self.root is None else file.relative_to(self.root).as_posix()
            yield from _READERS[file.suffix](file, name)


def open_table(data: str, hub: HubSource | None, under: str = "") -> Table:
    """A data set by what the user said.

    Args:
        data: a file or folder, or the id of a repository on the hub.
        hub: how the benchmark is published there; None if it is not.
        under: of a folder, take the files whose path inside it contains this; if there are none, those whose whole path
            does, and if there are none either, all, unless they are of several splits.

    Raises:
        DataError: if it is neither there nor a repository's id, the folder holds no table, or one of several splits
            must be chosen.
    """
    path = Path(data).expanduser()
    if path.is_file():
        if path.suffix not in _READERS:
            raise DataError(f"{path} is none of {', '.join(_SUFFIXES)}: name such a file, or a folder of them")
        return Table(str(path), None, (path,))
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in _READERS and not _hidden(p, path) and not _of_run(p))
        if not files:
            raise DataError(f"{path} holds no table: looked for {', '.join(_SUFFIXES)} in it and below")
        return Table(str(path), None, tuple(_under(path, files, under)), root=path)
    if hub is None or data.count("/") != 1 or data.startswith((".", "/", "~")):
        raise DataError(f"there is no file or folder {data}" + (f"; the hub has {hub.repository}" if hub else ""))
    source = HubSource(data, hub.config, hub.split)
    return Table(data, _hub_revision(data), hub=source)


def _under(folder: Path, files: list[Path], under: str) -> list[Path]:
    """The files that are meant.

    Raises:
        DataError: if they are of several splits, and none of them is the one that is meant.
    """
    if not under:
        return files
    names = [p.relative_to(folder).as_posix() for p in files]
    for above in ("", f"{folder.resolve().as_posix()}/"):
        if chosen := [p for p, name in zip(files, names, strict=True) if under in above + name]:
            return chosen
    splits = sorted({_SHARD.sub("", p.relative_to(folder).with_suffix("").as_posix()) for p in files})
    if len(splits) > 1:
        raise DataError(
            f"{folder} holds {len(splits)} tables ({', '.join(splits[:5])}), and none is called {under}: name the "
            "file, or a folder with the files of one split"
        )
    return files


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _of_run(path: Path) -> bool:
    """Whether a file belongs to the run directory of an evaluation, which may lie inside the data's folder."""
    return (path.parent / "judgements.jsonl").exists()


def _parquet(path: Path, name: str) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from _numbered(path, name, (r for b in file.iter_batches(batch_size=_BATCH) for r in b.to_pylist()))
    except (pyarrow.ArrowException, OSError) as exc:
        raise DataError(f"{path} cannot be read as Parquet: {str(exc).splitlines()[0]}") from exc


def _arrow(path: Path, name: str) -> Iterator[Row]:
    """An Arrow stream, as `datasets` saves to disk, or an Arrow file."""
    import pyarrow
    from pyarrow import ipc

    def rows() -> Iterator[Any]:
        with pyarrow.memory_map(str(path)) as source:
            try:
                batches: Any = ipc.open_stream(source)
            except pyarrow.ArrowInvalid:
                source.seek(0)
                reader = ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            for batch in batches:
                for start in range(0, batch.num_rows, _BATCH):
                    yield from batch.slice(start, _BATCH).to_pylist()

    try:
        yield from _numbered(path, name, rows())
    except (pyarrow.ArrowException, OSError) as exc:
        raise DataError(f"{path} cannot be read as Arrow: {str(exc).splitlines()[0]}") from exc


def _jsonl(path: Path, name: str) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{name}:{number}"
            try:
                data = json.loads(line)
            except ValueError as exc:
                yield Row(where, path.parent, None, f"not JSON: {exc}")
                continue
            if isinstance(data, Mapping):
                yield Row(where, path.parent, data)
            else:
                yield Row(where, path.parent, None, f"a row must be an object, got {type(data).__name__}")


_READERS = {".parquet": _parquet, ".arrow": _arrow, ".jsonl": _jsonl}


def _numbered(path: Path, name: str, rows: Iterator[Any]) -> Iterator[Row]:
    for number, data in enumerate(rows, start=1):
        yield Row(f"{name}:row {number}", path.parent, data)


def _hub_rows(hub: HubSource, revision: str | None) -> Iterator[Row]:
    try:
        from datasets import DatasetDict, load_dataset
    except ImportError as exc:
        raise MissingExtraError("reading a data set from the hub", "train") from exc
    try:
        loaded = load_dataset(hub.repository, hub.config, split=hub.split, revision=revision)
    except Exception as exc:  # everything from no network to a withdrawn data set
        why = " ".join(str(exc).split())[:300]
        raise DataError(
            f"there is no file or folder {hub.repository} here, and it cannot be loaded from the hub: {why}"
        ) from exc
    splits = loaded if isinstance(loaded, DatasetDict) else {hub.split or "": loaded}
    for name, split in splits.items():
        number = 0
        # Arrow rows hold pictures as {bytes, path}; any other format would decode each of them.
        for batch in split.with_format("arrow").iter(batch_size=_BATCH):
            for data in batch.to_pylist():
                number += 1
                yield Row(f"{hub.repository}:{name}:row {number}", Path(), data)


def _hub_revision(repository: str) -> str | None:
    """The commit that is read; None where the hub does not say."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(repository).sha
    except Exception:  # offline: `datasets` may still have it in its cache
        return None
