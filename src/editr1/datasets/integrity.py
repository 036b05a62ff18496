"""What is wrong with a data set's rows: pictures that cannot be read, duplicates. Bad rows are quarantined, with
reasons; nothing is dropped in silence.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from editr1.datasets.contexts import ContextRow
from editr1.datasets.edits import BadRow
from editr1.errors import ImageError
from editr1.images import load_image
from editr1.types import ImageLike


@dataclass(frozen=True, slots=True)
class CheckedContext:
    """A context whose picture can be read.

    Attributes:
        data: the picture's file, as it was found.
        digest: SHA-256 of `data` and the instruction.
    """

    row: ContextRow
    data: bytes
    digest: str


def picture_bytes(ref: ImageLike) -> bytes:
    """A picture's file: as it is where there is one, else as PNG. That it can be decoded has been tried.

    Raises:
        ImageError: if it cannot be read.
    """
    image = load_image(ref)
    if isinstance(ref, bytes):
        return ref
    if isinstance(ref, str | Path):
        return Path(ref).expanduser().read_bytes()
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def check_contexts(
    rows: Iterable[ContextRow | BadRow], seen: dict[bytes, str] | None = None
) -> Iterator[CheckedContext | BadRow]:
    """Quarantine contexts whose picture cannot be read, and those that were there before.

    A duplicate has the same picture file and, but for case and blanks, the same instruction.

    Args:
        rows: as a `ContextSource` gives them; bad rows are passed on.
        seen: digests of former contexts and where they were, to check several sources against each other; it is
            added to.
    """
    seen = {} if seen is None else seen
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            data = picture_bytes(row.source)
        except (ImageError, OSError) as exc:
            yield BadRow(row.where, f"unreadable picture: {exc}")
            continue
        words = " ".join(row.instruction.casefold().split())
        key = hashlib.sha256(hashlib.sha256(data).digest() + words.encode("utf-8", "replace")).digest()
        if key in seen:
            yield BadRow(row.where, f"duplicate of {seen[key]}")
            continue
        seen[key] = row.where
        yield CheckedContext(row, data, key.hex())
