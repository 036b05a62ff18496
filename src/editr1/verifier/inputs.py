"""What a user passes in, made into jobs: pictures loaded, words checked, one error type per kind of trouble."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from editr1.errors import DataError
from editr1.images import load_with_notes, match_size
from editr1.types import EditTask, ImageLike, Principle, Quadruple, Usage
from editr1.verifier.decompose import Context, Decomposition

Item: TypeAlias = Quadruple | Mapping[str, Any]
Principles: TypeAlias = Sequence[Principle | Mapping[str, Any]]


@dataclass(slots=True)
class Job:
    """An edit whose pictures are loaded and whose input is sound; `principles` may come later.

    Attributes:
        index: of the item among those passed in.
        notes: what was done to the pictures.
        usage, seconds: what finding the principles took, if this job has to answer for it.
    """

    index: int
    id: str | None
    context: Context
    edited: Image.Image
    principles: tuple[Principle, ...] | None
    notes: tuple[str, ...]
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    def charge(self, split: Decomposition) -> None:
        """Take the principles, and the cost of finding them."""
        self.principles, self.usage, self.seconds = split.principles, split.usage, split.seconds


@dataclass(frozen=True, slots=True)
class _Source:
    """A loaded source picture; `ref` is held so that its identity stays its own."""

    ref: ImageLike
    image: Image.Image
    digest: str
    notes: tuple[str, ...]


class Loader:
    """Loads items. A source that several items share is loaded once, and shared."""

    def __init__(self, max_pixels: int | None) -> None:
        self._max_pixels = max_pixels
        self._sources: dict[str | int, _Source] = {}

    def job(self, index: int, item: Item) -> Job:
        """An item's pictures, loaded and of one size, and its words, checked.

        Raises:
            ImageError, DataError: if the item cannot be judged.
        """
        data = fields_of(item, ("source", "edited", "instruction"))
        principles = principles_of(data.get("principles"))
        context, source_notes = self.context(data["source"], data["instruction"])
        edited, edited_notes = load_with_notes(data["edited"], "edited", max_pixels=self._max_pixels)
        edited, size_notes = match_size(context.source, edited)
        return Job(index, id_of(item), context, edited, principles, source_notes + edited_notes + size_notes)

    def context(self, source: ImageLike, instruction: Any) -> tuple[Context, tuple[str, ...]]:
        """A context, and what was done to its picture.

        Raises:
            ImageError, DataError: if picture or instruction cannot be used.
        """
        if not isinstance(instruction, str) or not instruction.strip():
            raise DataError(f"the instruction is empty ({instruction!r}): say what was to be done with the picture")
        # A lone surrogate would break every encoder on the way to the judge.
        instruction = instruction.encode("utf-8", "replace").decode("utf-8")
        key = str(source) if isinstance(source, str | Path) else id(source)
        if key not in self._sources:
            image, notes = load_with_notes(source, "source", max_pixels=self._max_pixels)
            digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
            self._sources[key] = _Source(source, image, digest, notes)
        found = self._sources[key]
        return Context(found.image, found.digest, instruction), found.notes


def fields_of(item: Any, needed: Sequence[str]) -> Mapping[str, Any]:
    """An item or task as a mapping that has the needed keys.

    Raises:
        DataError: if it is neither, or lacks one.
    """
    if isinstance(item, Quadruple):
        task, own = item.task, {"id": item.id, "edited": item.edited}
        item = own | {name: getattr(task, name) for name in ("source", "instruction", "principles")}
    elif isinstance(item, EditTask):
        item = {name: getattr(item, name) for name in ("source", "instruction", "principles")}
    if not isinstance(item, Mapping):
        raise DataError(f"an item must be a mapping or a Quadruple, got {type(item).__name__}")
    if missing := [name for name in needed if item.get(name) is None]:
        raise DataError(f"the item has no {' and no '.join(missing)}: it needs {', '.join(needed)}")
    return item


def id_of(item: Any) -> str | None:
    """An item's id, whatever state the rest of it is in."""
    value = item.id if isinstance(item, Quadruple) else item.get("id") if isinstance(item, Mapping) else None
    return None if value is None else str(value)


def principles_of(given: Any) -> tuple[Principle, ...] | None:
    """Principles as such; None if they are to be found.

    Raises:
        DataError: if the list is empty or an entry is no principle.
    """
    if given is None:
        return None
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise DataError(f"principles must be a list of at least one question with its category, got {given!r}")
    try:
        return tuple(p if isinstance(p, Principle) else Principle.from_dict(p) for p in given)
    except ValueError as exc:
        raise DataError(str(exc)) from None
