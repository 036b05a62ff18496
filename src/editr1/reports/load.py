"""Read the verdicts that a report is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from editr1.errors import DataError
from editr1.reports.entries import BAD_VERDICT, describe
from editr1.types import EditVerdict, VerdictStatus

VERDICTS_FILE = "verdicts.jsonl"
_BESIDE = ("source", "edited", "instruction", "kind", "editor", "truth")


def load_items(path: str | Path) -> list[dict[str, Any]]:
    """Items for `write_report` from a verdicts JSONL, as `editr1 score --out` writes it, or from a run directory.

    Each line is a verdict's `to_dict()` with `source`, `edited` and `instruction` beside, and where known `kind`,
    `editor` and `truth`. Picture paths are relative to the file. A line that cannot be read becomes an item with
    status `error` that says so. Of several lines with one id, as a resumed run leaves them, the last that is ok counts,
    else the last.

    Raises:
        DataError: if there is no such file, or no line of it is a verdict.
    """
    path = Path(path)
    if path.is_dir():
        path /= VERDICTS_FILE
    if not path.is_file():
        raise DataError(
            f"no verdicts at {path}: name a JSONL file written by `editr1 score --out`, "
            f"or a run directory that holds {VERDICTS_FILE}"
        )
    kept: dict[str, dict[str, Any]] = {}
    first, readable = "", False
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                item, error = _item(line, number, path)
                first, readable = first or error, readable or not error
                if item["id"] not in kept or _ok(item) or not _ok(kept[item["id"]]):
                    kept[item["id"]] = item
    if kept and not readable:
        raise DataError(f"{path} holds no verdicts ({first}): name a file that `editr1 score --out` wrote")
    return list(kept.values())


def _item(line: str, number: int, path: Path) -> tuple[dict[str, Any], str]:
    """A line as an item, and why it is no verdict, or nothing."""
    where = f"line {number} of {path.name}"
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as exc:
        return _broken(f"{where} is not JSON: {exc}", {"id": f"line {number}"})
    if not isinstance(data, dict):
        return _broken(f"{where} is no object, but a {type(data).__name__}", {"id": f"line {number}"})
    item = {key: data[key] for key in _BESIDE if data.get(key) is not None}
    item["id"] = f"line {number}" if data.get("id") is None else str(data["id"])
    for role in ("source", "edited"):
        if isinstance(item.get(role), str):
            item[role] = path.parent / item[role]
    try:
        verdict = EditVerdict.from_dict(data).to_dict()
    except BAD_VERDICT as exc:
        return _broken(f"{where} is no verdict: {describe(exc)}", item)
    return {**item, "verdict": verdict}, ""


def _broken(error: str, item: dict[str, Any]) -> tuple[dict[str, Any], str]:
    return {**item, "verdict": EditVerdict(VerdictStatus.ERROR, id=item["id"], error=error).to_dict()}, error


def _ok(item: dict[str, Any]) -> bool:
    return bool(item["verdict"]["status"] == VerdictStatus.OK)
