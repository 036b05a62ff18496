"""The embedded domain as source, editors and judges of curation. All of it is simulated, and named so.

The simulated judges know the truth by the pictures: they look up which task a source picture is of, and which
simulated editor made an edited one. What a real editor made of a sticker task they read off the pixels
(`editr1.rewards.sticker_reading`). Everything between them and the stages is what real judges go through: a chat with
pictures in, text out.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from random import Random

from PIL import Image

from editr1.curation.edit import EditJob, Failed, OnEdit
from editr1.curation.records import as_png
from editr1.datasets.contexts import ContextRow
from editr1.datasets.edits import BadRow
from editr1.errors import ConfigError
from editr1.judges.base import ChatReply, ChatRequest, OnReply, Picture, ReplyStatus, Text
from editr1.rewards.sticker_reading import read_edit
from editr1.stickers.annotators import JUDGES, STRICT, SimulatedJudge
from editr1.stickers.draw import draw
from editr1.stickers.faults import CONTRAST, EDITORS, StickerEdit
from editr1.stickers.steps import Add, Move
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.types import Usage
from editr1.verifier.render import format_principles

_ALL_EDITORS = {**EDITORS, CONTRAST.name: CONTRAST}
_ALL_JUDGES = {**JUDGES, STRICT.name: STRICT}
ROLES = ("select", "decompose", "trace", "verify")

_KEPT_READINGS = 4096
"""Edits that were read off pixels and are kept: a shard's worth, and more."""


class StickerContexts:
    """The first `count` tasks of a split, as a source of contexts."""

    def __init__(self, split: str, count: int) -> None:
        self.split = split
        self.count = count
        self.name = "stickers"
        self.fingerprint = f"stickers:{split}:{count}"

    def __len__(self) -> int:
        return self.count

    def rows(self, positions: Collection[int] | None = None) -> Iterator[ContextRow | BadRow]:
        """The tasks at these positions, or all, in order."""
        for index in range(self.count) if positions is None else sorted(set(positions)):
            task = sample_task(self.split, index)
            yield ContextRow(
                position=index,
                where=f"{self.split}/{index}",
                name=f"{self.split}-{index}",
                source=as_png(draw(task.before)),
                instruction=task.instruction,
                kind=task.kind,
            )


class StickerEditor:
    """One of the simulated editors: the pool's, or "contrast", who is mostly wrong.

    Raises:
        ConfigError: if there is none of that name.
    """

    def __init__(self, name: str) -> None:
        if name not in _ALL_EDITORS:
            raise ConfigError(f"no simulated editor {name!r}: there are {', '.join(_ALL_EDITORS)}")
        self.name = name
        self.fingerprint = f"simulated-editor:{_ALL_EDITORS[name]!r}"

    def edit(self, jobs: Sequence[EditJob], *, on_edit: OnEdit) -> None:
        """Edit each context that is a sticker task."""
        for index, job in enumerate(jobs):
            source, _, place = job.decomposed.context.origin.partition(":")
            split, _, number = place.rpartition("/")
            if source != "stickers" or not number.isdigit():
                on_edit(index, Failed("not a sticker task", f"the context comes from {job.decomposed.context.origin}"))
                continue
            made = _ALL_EDITORS[self.name].edit(sample_task(split, int(number)), job.sample)
            on_edit(index, as_png(made.picture()))


class StickerIndex:
    """Finds the task of a source picture and the edit of an edited one. It is filled as far as it has to be.

    Args:
        split: of the tasks.
        count: how many there are.
        editors: who may have edited, and how many candidates each made.
        reads: whether pictures that none of them made are read off the pixels; otherwise they are not known.
    """

    def __init__(self, split: str, count: int, editors: Sequence[tuple[str, int]] = (), *, reads: bool = False) -> None:
        self.split = split
        self.count = count
        self.editors = tuple(editors)
        self.reads = reads
        self._tasks: dict[bytes, int] = {}
        self._drawn = 0
        self._lock = threading.Lock()
        self._edits = lru_cache(maxsize=1024)(self._edits_of)
        self._read: OrderedDict[tuple[str, bytes], StickerEdit] = OrderedDict()

    def task(self, source: Image.Image) -> StickerTask | None:
        """The task that starts from this picture, if there is one."""
        digest = _digest(source)
        with self._lock:
            while digest not in self._tasks and self._drawn < self.count:
                self._tasks.setdefault(_digest(draw(sample_task(self.split, self._drawn).before)), self._drawn)
                self._drawn += 1
            index = self._tasks.get(digest)
        return None if index is None else sample_task(self.split, index)

    def edit(self, source: Image.Image, edited: Image.Image) -> StickerEdit | None:
        """The edit that made the one picture of the other, if it is known or can be read."""
        task = self.task(source)
        if task is None:
            return None
        digest = _digest(edited)
        return self._edits(task.id).get(digest) or (self._read_edit(task, edited, digest) if self.reads else None)

    def _read_edit(self, task: StickerTask, edited: Image.Image, digest: bytes) -> StickerEdit:
        """Every judge of the pool asks about the same pictures, one after the other: the last ones are kept."""
        with self._lock:
            found = self._read.get((task.id, digest))
        if found is None:
            found = read_edit(task, edited, f"read-{digest.hex()[:12]}")
            with self._lock:
                self._read[task.id, digest] = found
                if len(self._read) > _KEPT_READINGS:
                    self._read.popitem(last=False)
        return found

    def _edits_of(self, task_id: str) -> dict[bytes, StickerEdit]:
        task = sample_task(self.split, int(task_id.rpartition("/")[2]))
        edits = [_ALL_EDITORS[name].edit(task, n) for name, samples in self.editors for n in range(samples)]
        found: dict[bytes, StickerEdit] = {}
        for edit in edits:
            found.setdefault(_digest(edit.picture()), edit)
        return found


class StickerJudge:
    """A simulated judge behind the judge protocol. Its answers are a function of the request.

    Args:
        simulated: name of one of the simulated judges: "lenient", "hasty", "keen", "picky" or "strict".
        role: the stage that it serves, one of ROLES: what it is asked for.
        index: how it knows the truth.
        echo_question: whether its traces repeat the questions.

    Raises:
        ConfigError: if there is none of that name.
    """

    def __init__(self, simulated: str, role: str, index: StickerIndex, *, echo_question: bool = False) -> None:
        if simulated not in _ALL_JUDGES:
            raise ConfigError(f"no simulated judge {simulated!r}: there are {', '.join(_ALL_JUDGES)}")
        self.judge: SimulatedJudge = _ALL_JUDGES[simulated]
        self.name = f"simulated-{simulated}"
        self.role = role
        self.fingerprint = f"simulated:{role}:{echo_question}:{self.judge!r}"
        self._index = index
        self._echo = echo_question
        self._answer = _ANSWERS[role]

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests; a picture that is no sticker picture is an error."""
        replies = []
        for number, request in enumerate(requests):
            reply = self._reply(request)
            replies.append(reply)
            if on_reply is not None:
                on_reply(number, reply)
        return replies

    def _reply(self, request: ChatRequest) -> ChatReply:
        parts = [part for message in request.messages for part in message.content]
        pictures = [part.image for part in parts if isinstance(part, Picture)]
        asked = sum(len(part.text.split()) for part in parts if isinstance(part, Text))
        text = self._answer(self, pictures, int(request.fingerprint()[:12], 16))
        if text is None:
            return ChatReply(ReplyStatus.ERROR, error=f"{self.name} knows sticker pictures only, and this is none")
        return ChatReply(ReplyStatus.OK, text, Usage(asked, len(text.split()), calls=1))

    def _select(self, pictures: Sequence[Image.Image], seed: int) -> str | None:
        task = self._index.task(pictures[0])
        if task is None:
            return None
        kinds = ["multi-step"] if len(task.steps) > 1 else []
        kinds += ["precise-spatial"] if any(isinstance(step, Add | Move) for step in task.steps) else []
        reason = f"{len(task.steps)} steps" if len(task.steps) > 1 else "one step"
        if Random(seed).random() < self.judge.flips:  # overlooks what makes it hard
            kinds = []
        return json.dumps({"reason": f"The instruction has {reason}.", "kinds": kinds, "keep": bool(kinds)})

    def _decompose(self, pictures: Sequence[Image.Image], seed: int) -> str | None:
        task = self._index.task(pictures[0])
        return None if task is None else format_principles(task.principles)

    def _trace(self, pictures: Sequence[Image.Image], seed: int) -> str | None:
        edit = self._index.edit(*pictures)
        return None if edit is None else self.judge.trace(edit, seed).text(self._echo)

    def _verify(self, pictures: Sequence[Image.Image], seed: int) -> str | None:
        edit = self._index.edit(*pictures)
        if edit is None:
            return None
        checks = self.judge.trace(edit, seed).checks
        return json.dumps([{"id": n, "reason": c.reason, "gold": int(c.met)} for n, c in enumerate(checks, start=1)])


_ANSWERS: dict[str, Callable[[StickerJudge, Sequence[Image.Image], int], str | None]] = {
    "select": StickerJudge._select,
    "decompose": StickerJudge._decompose,
    "trace": StickerJudge._trace,
    "verify": StickerJudge._verify,
}


def _digest(picture: Image.Image) -> bytes:
    return hashlib.sha256(picture.convert("RGB").tobytes()).digest()[:16]
