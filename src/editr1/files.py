"""Writing files so that a crash never leaves half a one."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a whole file at once: readers see the old content or the new one, never a part.

    The folder is made if need be; text is written as UTF-8, with "?" for half of a surrogate pair, which no file holds.

    Returns:
        the path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def write_json(path: str | Path, data: Any) -> Path:
    """Write JSON for people and programs alike: indented, UTF-8, with a closing newline. Atomic."""
    return write_atomic(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def relative_reference(path: str | Path, folder: str | Path) -> str:
    """A path as seen from a folder, so that both can be moved together; absolute if they are on different drives."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(path).resolve().as_posix()


def repair_tail(path: Path) -> bytes:
    """Cut off a last line that was torn by a crash, i.e. that has no newline, and return what was cut.

    A last line that is whole JSON and lacks only its newline is kept and given one.
    """
    if not path.is_file():
        return b""
    with path.open("rb+") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        tail = data[whole:]
        if not tail.strip():
            return b""
        try:
            json.loads(tail)
        except ValueError:
            file.truncate(whole)
            return tail
        file.write(b"\n")
        return b""
