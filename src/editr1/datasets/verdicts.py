"""A file of verdicts: JSONL, appended as they come in, one line per edit in the end.

Each line is a verdict's `to_dict()` with `source`, `edited` and `instruction` beside it, and `kind`, `editor` and
`truth` where known, so that a report can be made from the file alone. Pictures that were given as bytes are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from editr1.datasets.edits import EditRow
from editr1.errors import DataError
from editr1.files import relative_reference, repair_tail, write_atomic
from editr1.types import EditVerdict, ImageLike

_LINE_START = b'{"id":'


class VerdictFile:
    """Verdicts on disk. Opening reads what a former run left; finished work survives any end of the program.

    Attributes:
        path: of the file.
        verdicts: id -> the verdict that counts: the last one that is ok, else the last.
        torn: whether a line that a crash had cut short was dropped on opening.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a file of verdicts, which need not exist yet.

        Raises:
            DataError: if it holds anything but verdicts; it is then left as it was.
        """
        self.path = Path(path)
        self.verdicts: dict[str, EditVerdict] = {}
        self._lines: dict[str, str] = {}
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder: name a file for the verdicts")
        self._read()
        self.torn = bool(repair_tail(self.path))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8")

    @property
    def done(self) -> set[str]:
        """Ids that have a verdict with a score; all others are worth another try."""
        return {key for key, verdict in self.verdicts.items() if verdict.ok}

    def append(self, row: EditRow, verdict: EditVerdict) -> None:
        """Add a verdict and flush it to the file."""
        data = verdict.to_dict() | {"id": row.id} | self._beside(row)
        line = json.dumps(data, ensure_ascii=False)
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:  # half a character in an instruction: JSON's escapes can hold it
            line = json.dumps(data)
        self._file.write(line + "\n")
        self._file.flush()
        self._keep(row.id, verdict, line)

    def finish(self, order: Iterable[str] = ()) -> None:
        """Close the file and rewrite it at once with one line per edit.

        Args:
            order: ids in the order that lines shall have; edits that are not among them follow as they were.
        """
        self.close()
        ids = dict.fromkeys([*(key for key in order if key in self._lines), *self._lines])
        write_atomic(self.path, "".join(f"{self._lines[key]}\n" for key in ids))

    def close(self) -> None:
        """Close the file as it is; safe to call twice."""
        self._file.close()

    def __enter__(self) -> VerdictFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
                verdict = EditVerdict.from_dict(data)
                key = str(data["id"])
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                if number == len(lines) and _is_torn(line):
                    return
                raise DataError(
                    f"{self.path}:{number} is no verdict, so nothing is written to it: name another file"
                ) from exc
            self._keep(key, verdict, line.decode("utf-8"))

    def _keep(self, key: str, verdict: EditVerdict, line: str) -> None:
        before = self.verdicts.get(key)
        if before is None or verdict.ok or not before.ok:
            self.verdicts[key], self._lines[key] = verdict, line

    def _beside(self, row: EditRow) -> dict[str, Any]:
        task = row.quadruple.task
        beside = {
            "source": self._reference(task.source),
            "edited": self._reference(row.quadruple.edited),
            "instruction": task.instruction,
            "kind": task.kind and task.kind.value,
            "editor": row.quadruple.editor or None,
            "truth": row.truth and dict(row.truth),
        }
        return {key: value for key, value in beside.items() if value is not None}

    def _reference(self, picture: ImageLike) -> str | None:
        """A picture's path as seen from this file; None if it is no path."""
        if not isinstance(picture, str | Path):
            return None
        return relative_reference(picture, self.path.parent)


def _is_torn(line: bytes) -> bool:
    """Whether a last line without a newline is the beginning of a verdict, cut short by a crash."""
    try:
        json.loads(line)
    except ValueError:
        return line[: len(_LINE_START)] == _LINE_START[: len(line)]
    return False
