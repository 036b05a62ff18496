"""Preference pairs are checked, completed and written into a folder; whatever is left out is counted, with reasons."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from editr1.datasets.edits import BadRow
from editr1.datasets.integrity import picture_bytes
from editr1.datasets.preferences import ROW_GROUP, PreferenceTable
from editr1.errors import DataError, ImageError
from editr1.files import write_atomic, write_json
from editr1.types import EditTask, ImageLike, PreferencePair, Principle

Read = Callable[[], Iterable[PreferencePair | BadRow]]
"""Gives all pairs from the beginning, each time it is called."""

FindPrinciples = Callable[[Sequence[EditTask]], Sequence[tuple[Principle, ...] | None]]
"""Principles of contexts, in order; None where there are none to be had."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        rows: pairs by split; `same`: how many of them are marked so.
        dropped: pairs left out, by reason.
    """

    folder: Path
    rows: dict[str, int]
    same: dict[str, int]
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Checked:
    """A pair whose pictures can be read, and what it is compared with others by."""

    where: str
    source: bytes
    preferred: bytes
    other: bytes
    pair: PreferencePair

    @property
    def context(self) -> str:
        """Identifies the source picture."""
        return _digest(self.source)

    @property
    def content(self) -> str:
        """Identifies source, instruction and the two edits, whichever was preferred."""
        words = " ".join(self.pair.task.instruction.casefold().split())
        edits = sorted((_digest(self.preferred), _digest(self.other)))
        return _digest("\x00".join((self.context, words, *edits)).encode("utf-8", "replace"))

    @property
    def label(self) -> str:
        """Which edit was preferred, told by its content, or "same"."""
        return "same" if self.pair.same else _digest(self.preferred)


class _Drop(Exception):
    """A pair that cannot be used: a kind of reason to count by, and the reason."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def write_preferences(
    read: Read,
    folder: str | Path,
    *,
    heldout: float | None = None,
    split: str | None = None,
    find_principles: FindPrinciples | None = None,
    origin: str = "",
) -> Imported:
    """Check pairs and write them into a folder; what is left out is counted, with reasons.

    Left out are pairs with a picture that is missing or unreadable, without an instruction, with halves that are the
    same file; duplicates; and contradictions, all rows of them: one annotator who said two things about the same two
    edits, or preferences in both directions.

    Args:
        read: gives the pairs; it is called twice, so that no more than a few pictures are held in memory.
        folder: made if need be; files of an earlier import are replaced.
        heldout: share of sources, in (0, 1), that goes into heldout.parquet; by a hash of the picture, so that a
            source's pairs stay together and adding data moves none.
        split: instead, the one split that all pairs belong to, "train" or "heldout"; the other file is left alone.
        find_principles: asked for the contexts that have none.
        origin: for the manifest.

    Raises:
        DataError: if there is no pair that can be used, or not one of `heldout` and `split` is given.
    """
    if (heldout is None) == (split is None) or split not in (None, "train", "heldout"):
        raise DataError("give the share of sources to hold out, or 'train' or 'heldout' as the split of all pairs")
    if heldout is not None and not 0 < heldout < 1:
        raise DataError(f"the share of sources to hold out must lie between 0 and 1, got {heldout}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rejects: list[dict[str, str]] = []
    labels = _labels(read)
    names = ("train", "heldout") if split is None else (split,)
    files = {name: PreferenceTable(folder / f"{name}.parquet") for name in names}
    try:
        for group in _grouped(_sound(read, labels, rejects)):
            for checked in _with_principles(group, find_principles, rejects):
                name = split or ("heldout" if held_out(checked.context, heldout or 0.0) else "train")
                files[name].add(_row(checked))
    finally:
        for table in files.values():
            table.close()
    if not any(table.rows for table in files.values()):
        first = f"; the first of {len(rejects)}: {rejects[0]['where']}: {rejects[0]['why']}" if rejects else ""
        raise DataError(f"no pair can be used{first}")
    for table in files.values():
        table.publish()
    rows = {name: table.rows for name, table in files.items()}
    same = {name: table.same for name, table in files.items()}
    dropped = dict(sorted(Counter(reject["kind"] for reject in rejects).items()))
    suffix = "" if split is None else f"-{split}"
    lines = (json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects)
    write_atomic(folder / f"rejects{suffix}.jsonl", "".join(lines))
    manifest = {"origin": origin, "rows": rows, "same": same, "dropped": dropped, "held_out_share": heldout}
    write_json(folder / f"manifest{suffix}.json", manifest)
    return Imported(folder, rows, same, dropped)


def held_out(context: str, share: float) -> bool:
    """Whether a source belongs to the held-out split: decided by its picture alone."""
    draw = int.from_bytes(hashlib.sha256(f"preferences/{context}".encode()).digest()[:8], "big")
    return draw < share * 2**64


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _check(pair: PreferencePair, where: str) -> _Checked:
    if not pair.task.instruction.strip():
        raise _Drop("empty", "the instruction is empty")
    pictures: dict[str, bytes] = {}
    for name, picture in (("source", pair.task.source), ("preferred", pair.preferred), ("other", pair.other)):
        pictures[name] = _picture(picture, name)
    if pictures["preferred"] == pictures["other"]:
        raise _Drop("same file", "the two edits are the same file")
    return _Checked(where, **pictures, pair=pair)


def _picture(picture: ImageLike, name: str) -> bytes:
    try:
        return picture_bytes(picture)
    except (ImageError, OSError) as exc:
        raise _Drop("picture", f"no readable picture as {name}: {exc}") from exc


def _labels(read: Read) -> dict[str, set[tuple[str, str]]]:
    """What was said about each two edits: content -> (annotator, label)."""
    said: dict[str, set[tuple[str, str]]] = {}
    for row in read():
        if isinstance(row, PreferencePair):
            try:
                checked = _check(row, "")
            except _Drop:
                continue
            said.setdefault(checked.content, set()).add((row.annotator, checked.label))
    return said


def _contradiction(said: set[tuple[str, str]]) -> str | None:
    if len({label for _, label in said if label != "same"}) > 1:
        return "preferences in both directions were given to these two edits"
    if len({annotator for annotator, _ in said}) < len(said):
        return "one annotator said two things about these two edits"
    return None


def _sound(read: Read, labels: dict[str, set[tuple[str, str]]], rejects: list[dict[str, str]]) -> Iterator[_Checked]:
    seen: dict[tuple[str, str], str] = {}
    for number, row in enumerate(read(), start=1):
        where = row.where if isinstance(row, BadRow) else f"{row.task.id} (row {number})"
        try:
            if isinstance(row, BadRow):
                raise _Drop(_kind_of(row.why), row.why)
            checked = _check(row, where)
            if why := _contradiction(labels[checked.content]):
                raise _Drop("contradiction", why)
            key = (checked.content, row.annotator)
            if key in seen:
                raise _Drop("duplicate", f"duplicate of {seen[key]}")
        except _Drop as drop:
            rejects.append({"where": where, "kind": drop.kind, "why": str(drop)})
        else:
            seen[key] = where
            yield checked


def _kind_of(why: str) -> str:
    """A bad row's kind, from what its reader said of it."""
    for kind in ("contradictory", "duplicate", "picture"):
        if kind in why:
            return "contradiction" if kind == "contradictory" else kind
    return "row"


def _grouped(rows: Iterable[_Checked]) -> Iterator[list[_Checked]]:
    group: list[_Checked] = []
    for row in rows:
        group.append(row)
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


def _with_principles(
    group: list[_Checked], find: FindPrinciples | None, rejects: list[dict[str, str]]
) -> Iterator[_Checked]:
    """The rows with principles found where they had none; without a finder they stay as they are."""
    lacking = [c for c in group if not c.pair.task.principles]
    if find is None or not lacking:
        yield from group
        return
    contexts = {(c.context, c.pair.task.instruction): replace(c.pair.task, source=c.source) for c in lacking}
    found = dict(zip(contexts, find(list(contexts.values())), strict=True))
    for row in group:
        task = row.pair.task
        if task.principles:
            yield row
        elif principles := found[row.context, task.instruction]:
            yield replace(row, pair=replace(row.pair, task=replace(task, principles=principles)))
        else:
            why = "the instruction could not be split into principles"
            rejects.append({"where": row.where, "kind": "principles", "why": why})


def _row(checked: _Checked) -> dict[str, Any]:
    pair, task = checked.pair, checked.pair.task
    return {
        "id": task.id,
        "source": {"bytes": checked.source, "path": None},
        "preferred": {"bytes": checked.preferred, "path": None},
        "other": {"bytes": checked.other, "path": None},
        "instruction": task.instruction.strip(),
        "principles": [p.to_dict() for p in task.principles or ()],
        "same": pair.same,
        "annotator": pair.annotator,
        "kind": None if task.kind is None else task.kind.value,
        "context": checked.context,
    }
