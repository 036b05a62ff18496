"""Pictures of a benchmark: known by their content, checked before a judge is asked, never all in memory.

Published tables hold pictures as bytes, several gigabytes of them. Bytes are written once, under their hash, into a
folder; paths stay where they are. Either way a picture becomes a path, a digest and a size.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from editr1.errors import ImageError
from editr1.files import write_atomic

_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture on disk.

    Attributes:
        path: of the file.
        digest: first 32 hex digits of the SHA-256 of its bytes: two pictures are one if these agree.
        size: width and height as stored, in pixels.
    """

    path: Path
    digest: str
    size: tuple[int, int]


class PictureStore:
    """Takes pictures in any published form.

    Args:
        folder: for pictures that come as bytes; made when the first one does.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._by_path: dict[Path, StoredPicture] = {}

    def take(self, value: Any, root: Path, name: str) -> StoredPicture:
        """A picture given as bytes, as a path relative to `root`, or as the struct {bytes, path} of `datasets`.

        Only the header is read: that the rest can be decoded shows when it is judged.

        Args:
            value: the picture.
            root: that relative paths start from.
            name: of the column, for messages.

        Raises:
            ImageError: if there is none, or it is no picture.
        """
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes) and value:
            return self._from_bytes(value, name)
        if isinstance(value, str | Path) and str(value).strip():
            return self._from_path(root / value, name)
        raise ImageError(f"{name}: there is no picture, got {_short(value)}")

    def _from_bytes(self, data: bytes, name: str) -> StoredPicture:
        size, suffix = _header(data, name)
        digest = _digest(data)
        path = self.folder / f"{digest}{suffix}"
        if not path.exists():
            write_atomic(path, data)
        return StoredPicture(path, digest, size)

    def _from_path(self, path: Path, name: str) -> StoredPicture:
        if path not in self._by_path:
            try:
                data = path.read_bytes()
            except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
                missing = isinstance(exc, FileNotFoundError)
                reason = "there is no such file" if missing else getattr(exc, "strerror", None) or exc
                raise ImageError(f"{name}: cannot read {_shown(path)}: {reason}") from None
            size, _ = _header(data, f"{name}: {_shown(path)}")
            self._by_path[path] = StoredPicture(path, _digest(data), size)
        return self._by_path[path]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _header(data: bytes, name: str) -> tuple[tuple[int, int], str]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size, _SUFFIXES.get(image.format or "", ".img")
    except Exception as exc:  # a decoder may raise nearly anything on a damaged header
        raise ImageError(f"{name}: {len(data)} bytes that are no readable picture ({type(exc).__name__})") from None


def _shown(path: Path) -> str:
    """A path for a message; base64 in the place of a path is long."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:60]}... ({len(text)} characters: a path was expected)"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
