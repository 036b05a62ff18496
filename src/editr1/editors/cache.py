"""Contexts that were encoded are kept: an editor's encoders can outweigh its transformer, and contexts come again."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from editr1.editors.base import EditorOptions
from editr1.editors.context import Context, Geometry
from editr1.errors import ConfigError
from editr1.files import write_atomic
from editr1.images import load_image
from editr1.types import EditTask

DEFAULT_BYTES = 4 << 30


class _Encoder(Protocol):
    """What the cache needs of an editor."""

    name: str
    fingerprint: str
    options: EditorOptions

    def encode(self, tasks: Sequence[EditTask]) -> list[Context]: ...


class ContextCache:
    """Encodes each pair of picture and instruction once.

    Args:
        editor: that encodes.
        folder: to keep contexts in beyond this run, one safetensors file each; None keeps them in memory only.
        most_bytes: that may be held in memory; the contexts used longest ago go first.

    Attributes:
        encoded: how many contexts had to be encoded so far.

    Raises:
        ConfigError: for a folder with an editor whose fingerprint is unknown: its contexts could not be told from
            those of another.
    """

    def __init__(self, editor: _Encoder, folder: str | Path | None = None, *, most_bytes: int = DEFAULT_BYTES) -> None:
        if folder is not None and not editor.fingerprint:
            raise ConfigError(
                f"contexts of {editor.name} cannot be kept in {folder}, for its weights have no fingerprint: load it "
                "with build_editor, or keep contexts in memory"
            )
        self.editor = editor
        self.folder = None if folder is None else Path(folder)
        self.most_bytes = most_bytes
        self.encoded = 0
        self._held: OrderedDict[str, Context] = OrderedDict()
        self._bytes = 0

    def get(self, tasks: Sequence[EditTask]) -> list[Context]:
        """The context of each task, on the CPU; tasks of the same picture and instruction share one object's tensors.

        Raises:
            ImageError: if a source picture cannot be read.
        """
        return [self._one(task) for task in tasks]

    def _one(self, task: EditTask) -> Context:
        key = self._key(task)
        context = self._held.get(key) or self._load(key)
        if context is None:
            (context,) = self.editor.encode([task])
            self.encoded += 1
            self._save(key, context)
        self._hold(key, context)
        return context if context.id == task.id else replace(context, id=task.id)

    def _hold(self, key: str, context: Context) -> None:
        if key not in self._held:
            self._held[key] = context
            self._bytes += context.bytes
        self._held.move_to_end(key)
        while self._bytes > self.most_bytes and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._bytes -= oldest.bytes

    def _key(self, task: EditTask) -> str:
        """Never of the instruction alone, and never of the task's id: two data sets may share ids."""
        image = load_image(task.source)
        digest = hashlib.sha256(image.tobytes())
        about = [self.editor.fingerprint, self.editor.options.model_dump(), image.size, task.instruction]
        digest.update(json.dumps(about, sort_keys=True).encode())
        return digest.hexdigest()[:32]

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / key[:2] / f"{key}.safetensors"

    def _save(self, key: str, context: Context) -> None:
        if (path := self._path(key)) is not None:
            about = {"id": context.id, "geometry": json.dumps(asdict(context.geometry))}
            write_atomic(path, save({name: t.contiguous() for name, t in context.tensors.items()}, metadata=about))

    def _load(self, key: str) -> Context | None:
        """What a former run kept; a file that cannot be read is as good as none, and is written anew."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return Context(about["id"], _geometry(json.loads(about["geometry"])), tensors)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None


def _geometry(data: dict[str, Any]) -> Geometry:
    pairs = {"grid": tuple(data["grid"]), "references": tuple(tuple(grid) for grid in data["references"])}
    return Geometry(**(data | pairs))
