"""Tell whether the files of a model have changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

# Files up to this size enter the fingerprint whole, larger ones by evenly spread blocks, size and time of change.
_HASHED_WHOLE = 1 << 30
_BLOCK = 1 << 20
_BLOCKS = 64
_IDENTITY = (".json", ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".jinja", ".txt", ".model")


def folder_digest(folder: str | Path) -> str:
    """16 hex digits that change with any file that can change an answer."""
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(folder).iterdir() if p.suffix in _IDENTITY):
        stat = path.stat()
        digest.update(f"\x00{path.name}:{stat.st_size}:".encode())
        with path.open("rb") as file:
            if stat.st_size <= _HASHED_WHOLE:
                while block := file.read(_BLOCK):
                    digest.update(block)
            else:
                digest.update(str(stat.st_mtime_ns).encode())
                for number in range(_BLOCKS):
                    file.seek((stat.st_size - _BLOCK) * number // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def model_digest(model: str | Path) -> str:
    """Hash of a model's files, those of its parts included; empty for what is no folder, say a hub id."""
    folder = Path(model)
    if not folder.is_dir():
        return ""
    return "-".join(folder_digest(part) for part in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())))
