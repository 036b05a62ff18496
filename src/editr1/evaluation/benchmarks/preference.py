"""Preference pairs of one's own, one `PreferencePair` a row of JSONL or Parquet. The licence is whatever yours is.

id           optional; a hash of the content if absent
source       path, relative to the file's folder; in Parquet also bytes, or the struct {bytes, path} of `datasets`
preferred    likewise, the edit that people preferred
other        likewise, the other one
instruction  what was to be done
same         optional, true if they saw no difference: kept, counted, and left out of accuracy
annotator    optional; annotators are told apart
kind         optional, the kind of edit, for the mean over kinds
principles   optional list of {"question", "category"}
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from editr1.datasets.edits import parse_principles
from editr1.errors import DataError
from editr1.evaluation.benchmarks.base import Benchmark, Figures, Pair, column, present, text
from editr1.evaluation.benchmarks.pictures import PictureStore
from editr1.evaluation.benchmarks.tables import Row
from editr1.evaluation.metrics import Choice, PairResult, accuracy


def read(row: Row, store: PictureStore) -> Pair:
    """A row as described above."""
    data = row.data or {}
    source, preferred, other = (
        store.take(column(row, name), row.root, name) for name in ("source", "preferred", "other")
    )
    if preferred.digest == other.digest and not data.get("same"):
        raise DataError("preferred and other are the same picture: there is nothing to prefer")
    instruction, annotator = text(row, "instruction"), str(data.get("annotator") or "")
    same = data.get("same")
    if same not in (None, True, False):
        raise DataError(f"the column same must be true or false, got {same!r}")
    identity = data.get("id")
    if identity in (None, ""):
        edits = sorted((preferred.digest, other.digest))
        content = "\x00".join((source.digest, *edits, instruction))
        identity = hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16]
    return Pair(
        id=f"{identity}/{annotator}" if annotator else str(identity),
        source=source,
        instruction=instruction,
        first=preferred,
        second=other,
        label=Choice.SAME if same else Choice.FIRST,
        task=str(data.get("kind") or ""),
        principles=parse_principles(data.get("principles")),
        where=row.where,
    )


def official(results: Sequence[PairResult]) -> Figures:
    """Strict accuracy over pairs with a preference, as in the paper."""
    found = accuracy(results)
    return present([("accuracy", found.strict if found else None)])


BENCHMARK = Benchmark(
    name="preference",
    title="own preference pairs",
    licence="your own",
    commercial=True,
    read=read,
    official=official,
    protocol="strict accuracy; pairs marked 'same' are left out",
)
