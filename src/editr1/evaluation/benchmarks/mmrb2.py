"""Multimodal RewardBench 2 (MMRB2), image editing, CC BY-NC 4.0: for benchmarking, not for commerce, nor for training.

1,000 pairs with strong agreement of experts. The official folder has `edit.json`, {"pairs": [...]}, beside `images/`
and `input_images/`; a pair holds prompt and responses as lists of ["text", ...] and ["image", path]. Tables with
one pair a row are read too. Prompts with several pictures cannot be put to a judge of one source picture: they are
listed as unsupported, which leaves the "single-image subset" that the official table marks with a star.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from editr1.errors import DataError
from editr1.evaluation.benchmarks.base import Benchmark, Figures, Pair, Unsupported, choice, column, present
from editr1.evaluation.benchmarks.pictures import PictureStore
from editr1.evaluation.benchmarks.tables import Row, Table, open_table
from editr1.evaluation.metrics import Choice, PairResult, accuracy, order_check
from editr1.evaluation.published import published

_CHOSEN = {"A": Choice.FIRST, "B": Choice.SECOND}
_FILE = "edit.json"


def rows(data: str) -> tuple[Table, Iterable[Row]]:
    """The pairs of `edit.json`, of a folder that holds it, or of a table."""
    path = Path(data).expanduser()
    if path.is_dir() and (path / _FILE).is_file():
        path = path / _FILE
    if path.suffix != ".json" or not path.is_file():
        table = open_table(data, None)
        return table, table.rows()
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))["pairs"]
    except (ValueError, KeyError, TypeError) as exc:
        raise DataError(f'{path} is not of the form {{"pairs": [...]}}: {exc!r}') from exc
    if not isinstance(pairs, list):
        raise DataError(f"{path}: 'pairs' must be a list, got {type(pairs).__name__}")
    found = (
        Row(f"{path.name}:pair {n}", path.parent, pair if isinstance(pair, Mapping) else None, "a pair is no object")
        for n, pair in enumerate(pairs, start=1)
    )
    return Table(str(path), None, (path,)), found


def read(row: Row, store: PictureStore) -> Pair:
    """A pair: `pair_id` or `id`, `prompt_source`, `prompt_content`, `response_a`, `response_b`, `chosen` A or B."""
    data = row.data or {}
    identity = data.get("pair_id") or data.get("id")
    if identity is None:
        raise DataError("the pair has neither pair_id nor id")
    words, sources = _split(column(row, "prompt_content"), "prompt_content")
    if len(sources) != 1:
        raise Unsupported(f"the prompt has {len(sources)} pictures, and a judge here is shown one source picture")
    if not words:
        raise DataError("prompt_content has no text, so there is no instruction")
    edits = []
    for name in ("response_a", "response_b"):
        response = column(row, name)
        content = response.get("response_content") if isinstance(response, Mapping) else None
        pictures = _split(content, f"{name}.response_content")[1]
        if len(pictures) != 1:
            raise Unsupported(f"{name} has {len(pictures)} pictures, and an edit is one")
        edits.append(store.take(pictures[0], row.root, name))
    return Pair(
        id=str(identity),
        source=store.take(sources[0], row.root, "prompt_content"),
        instruction="\n".join(words),
        first=edits[0],
        second=edits[1],
        label=choice(row, "chosen", _CHOSEN),
        task=str(data.get("prompt_source") or ""),
        where=row.where,
    )


def official(results: Sequence[PairResult]) -> Figures:
    """Accuracy with each order as a trial of its own; for a pointwise judge both orders are one and the same."""
    if any(r.orders for r in results):
        check = order_check(results)
        return present([("both orders", check.both_orders if check else None)])
    found = accuracy(results)
    return present([("both orders", found.strict if found else None)])


def _split(content: Any, name: str) -> tuple[list[str], list[Any]]:
    """Texts and pictures of a list of ["text" or "image", value]."""
    if not isinstance(content, Sequence) or isinstance(content, str):
        raise DataError(f"{name} must be a list of [kind, value], got {type(content).__name__}")
    texts: list[Any] = []
    pictures: list[Any] = []
    for part in content:
        whole = isinstance(part, Sequence) and not isinstance(part, str) and len(part) == 2
        if not whole or part[0] not in ("text", "image"):
            raise DataError(f'{name}: {part!r} is neither ["text", ...] nor ["image", path]')
        (texts if part[0] == "text" else pictures).append(part[1])
    return [t.strip() for t in texts if isinstance(t, str) and t.strip()], pictures


BENCHMARK = Benchmark(
    name="mmrb2",
    title="MMRB2, image editing",
    licence="CC BY-NC 4.0",
    commercial=False,
    read=read,
    official=official,
    protocol="each pair in both orders, each order a trial; equal scores of a pointwise judge are wrong",
    rows=rows,
    published=published("mmrb2"),
)
