"""Edit: each editor makes its candidates of each context (section 4, step 3)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from editr1.curation.records import Decomposed, Edit, Reject, StageResult, content_id
from editr1.errors import ImageError
from editr1.files import write_atomic
from editr1.images import load_image


@dataclass(frozen=True, slots=True)
class EditJob:
    """One candidate to be made.

    Attributes:
        id: of the edit that it becomes.
        sample: which of the editor's candidates of this context, from 0.
        seed: of the editor's noise; other for each context and sample.
    """

    id: str
    decomposed: Decomposed
    sample: int
    seed: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A candidate that was not made: `kind` is what is counted."""

    kind: str
    detail: str


OnEdit = Callable[[int, "bytes | Failed"], None]


class Editor(Protocol):
    """Anything that edits pictures.

    Attributes:
        name: for people, e.g. "FLUX.1-Kontext-dev".
        fingerprint: everything about the editor that can change a picture.
    """

    name: str
    fingerprint: str

    def edit(self, jobs: Sequence[EditJob], *, on_edit: OnEdit) -> None:
        """Make all, calling `on_edit(index, picture's file or failure)` in the calling thread as each is there.

        Raises:
            ModelError, JudgeError: only if the editor as a whole cannot work.
        """
        ...


class KeptEdits:
    """Finished edits, by job: in a folder while their shard is under way, and in shards of former recipes.

    Args:
        folder: for edits of the shard under way.
        former: finished edits of former runs over the same contexts, read when first needed.
    """

    def __init__(self, folder: Path, former: Callable[[], Mapping[str, bytes]] = dict) -> None:
        self.folder = folder
        self._former = former
        self._loaded: Mapping[str, bytes] | None = None

    def get(self, job: str) -> bytes | None:
        """The picture's file, if the job was done."""
        if (self.folder / job).is_file():
            return (self.folder / job).read_bytes()
        if self._loaded is None:
            self._loaded = self._former()
        return self._loaded.get(job)

    def put(self, job: str, data: bytes) -> None:
        """Keep a picture's file."""
        write_atomic(self.folder / job, data)

    def clear(self) -> None:
        """Remove the folder: the shard is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def edit(
    contexts: Sequence[Decomposed],
    *,
    editors: Sequence[tuple[Editor, int]],
    seed: int = 0,
    keep: KeptEdits | None = None,
) -> StageResult[Edit]:
    """All editors' candidates of each context, in the order context, editor, sample.

    A picture that cannot be decoded is rejected like one that was not made, by the kind of failure; so is one that
    equals another editor's of the same context (kind "same picture"), which would only be judged twice.

    Args:
        contexts: from `decompose`.
        editors: each with the number of candidates that it makes of a context.
        seed: of the run.
        keep: where finished edits are found again, so that none is made twice.
    """
    made: dict[str, bytes | Failed] = {}
    jobs_of: list[list[EditJob]] = []
    for editor, samples in editors:
        jobs = [_job(editor, decomposed, n, seed) for decomposed in contexts for n in range(samples)]
        jobs_of.append(jobs)
        kept = {} if keep is None else {job.id: data for job in jobs if (data := keep.get(job.id)) is not None}
        made |= kept
        todo = [job for job in jobs if job.id not in kept]

        if todo:
            editor.edit(todo, on_edit=partial(_take, todo, made, keep))
    result: StageResult[Edit] = StageResult()
    for number, decomposed in enumerate(contexts):
        seen: dict[bytes, str] = {}
        for (editor, samples), jobs in zip(editors, jobs_of):
            for job in jobs[number * samples : (number + 1) * samples]:
                name = editor.name if samples == 1 else f"{editor.name}-{job.sample}"
                outcome = made.get(job.id, Failed("missing", "nothing came back"))
                outcome = outcome if isinstance(outcome, Failed) else _new(outcome, name, seen)
                if isinstance(outcome, Failed):
                    result.rejects.append(Reject(job.id, outcome.kind, f"{name}: {outcome.detail}"))
                else:
                    identity = content_id("edit", job.id, outcome)
                    result.records.append(Edit(identity, decomposed, name, outcome, job.id))
    return result


def _take(
    jobs: Sequence[EditJob],
    made: dict[str, bytes | Failed],
    keep: KeptEdits | None,
    index: int,
    outcome: bytes | Failed,
) -> None:
    made[jobs[index].id] = outcome
    if keep is not None and isinstance(outcome, bytes):
        keep.put(jobs[index].id, outcome)


def _job(editor: Editor, decomposed: Decomposed, sample: int, seed: int) -> EditJob:
    identity = content_id("job", editor.name, editor.fingerprint, decomposed.id, sample, seed)
    own_seed = int(content_id("noise", decomposed.context.id, sample, seed)[:7], 16)
    return EditJob(identity, decomposed, sample, own_seed)


def _new(data: bytes, name: str, seen: dict[bytes, str]) -> bytes | Failed:
    """A picture's file if it can be decoded and its pixels are not there yet; `seen` is added to."""
    try:
        image = load_image(data)
    except ImageError as exc:
        return Failed("unreadable", str(exc))
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
    if digest in seen:
        return Failed("same picture", f"equal to that of {seen[digest]}")
    seen[digest] = name
    return data
