"""What the stages hand on: frozen records, each with what came before inside, and named by its content.

An id is a hash of everything that the record is a function of: the record before it, prompts, judges, sampling, seed.
A changed prompt thus gives new ids from its stage on, and leaves the ids before it as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from PIL import Image

from editr1.images import load_image, match_size
from editr1.types import Check, EditKind, EditTask, Principle, Quadruple, Trace

T = TypeVar("T")


def content_id(*parts: Any) -> str:
    """20 hex digits of a hash over JSON-ready parts; bytes enter by their own hash."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        raise TypeError(f"{type(value).__name__} cannot be part of an id")

    text = json.dumps(parts, sort_keys=True, default=plain, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Context:
    """A selected picture and its instruction.

    Attributes:
        source: the picture's file.
        origin: where it comes from, "<source's name>:<place>".
        name: the picture's file name without its ending.
        subset: "random" or "hard".
        reason: for a hard one, why the judge let it pass.
    """

    id: str
    source: bytes
    instruction: str
    origin: str
    name: str = ""
    kind: EditKind | None = None
    subset: str = "random"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decomposed:
    """A context and its principles."""

    id: str
    context: Context
    principles: tuple[Principle, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """One editor's edit of a context: a quadruple.

    Attributes:
        edited: the picture's file.
        job: id of the job that it came from, by which a finished edit is found again.
    """

    id: str
    decomposed: Decomposed
    editor: str
    edited: bytes
    job: str = ""

    @property
    def instruction(self) -> str:
        """What was to be done."""
        return self.decomposed.context.instruction

    @property
    def principles(self) -> tuple[Principle, ...]:
        """What is checked."""
        return self.decomposed.principles

    @property
    def quadruple(self) -> Quadruple:
        """As the verifier knows it."""
        context = self.decomposed.context
        task = EditTask(context.id, context.source, context.instruction, self.principles, context.kind)
        return Quadruple(task, self.edited, self.editor)


@dataclass(frozen=True, slots=True)
class Traced:
    """An edit and what the pool wrote about it, in a fixed order; traces without a verdict are kept with the rest."""

    id: str
    edit: Edit
    traces: tuple[Trace, ...]

    @property
    def whole(self) -> list[int]:
        """Indices of the traces that have a verdict."""
        return [i for i, trace in enumerate(self.traces) if trace.verdict.ok]


@dataclass(frozen=True, slots=True)
class Verified:
    """A traced edit and the strict judge's gold: one check per principle, in order."""

    id: str
    traced: Traced
    gold: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A verified edit, the index of its best trace, and that trace's accuracy against the gold, in [0, 1]."""

    id: str
    verified: Verified
    index: int
    accuracy: float

    @property
    def trace(self) -> Trace:
        """The chosen trace."""
        return self.verified.traced.traces[self.index]


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that a stage did not hand on, and why: `kind` is what is counted, `detail` a sentence."""

    id: str
    kind: str
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """All fields by name."""
        return {"id": self.id, "kind": self.kind, "detail": self.detail}


@dataclass(slots=True)
class StageResult(Generic[T]):
    """What a stage makes of some records.

    Attributes:
        records: those handed on, in order.
        rejects: those not.
        failures: failed parts of records that were handed on all the same, by kind, e.g. traces without a verdict.
    """

    records: list[T] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def as_png(image: Image.Image) -> bytes:
    """A picture as a PNG file, the same bytes each time."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


class Pictures:
    """Decoded pictures of some records; a source that several edits share is decoded once."""

    def __init__(self) -> None:
        self._sources: dict[str, Image.Image] = {}

    def source(self, context: Context) -> Image.Image:
        """A context's picture."""
        if context.id not in self._sources:
            self._sources[context.id] = load_image(context.source)
        return self._sources[context.id]

    def edited(self, edit: Edit) -> Image.Image:
        """An edit's picture, brought to its source's size."""
        return match_size(self.source(edit.decomposed.context), load_image(edit.edited))[0]


def in_memory_sized(records: Sequence[T], edit_of: Callable[[T], Edit], most: int = 200_000_000) -> list[list[T]]:
    """Records in runs whose decoded pictures fit into memory: at most `most` pixels each, or one record."""
    runs: list[list[T]] = []
    pixels = most
    for record in records:
        with Image.open(io.BytesIO(edit_of(record).edited)) as image:
            size = 2 * image.width * image.height
        if pixels + size > most:
            runs.append([])
            pixels = 0
        runs[-1].append(record)
        pixels += size
    return runs
