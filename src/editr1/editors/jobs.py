"""Edits of many tasks into a folder: pictures as they are made, a file that `editr1 score` reads, and no work twice.

<folder>/editing.json     what the pictures were made with
<folder>/edits.jsonl      a line for each: {id, task, source, edited, instruction, editor, seed, ...}
<folder>/pictures/        <task>-<seed>.png
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from editr1.datasets.edits import BadRow, edit_row
from editr1.editors.context import Context
from editr1.editors.pipeline import PipelineEditor
from editr1.editors.sampling import sample
from editr1.errors import ConfigError, DataError, ImageError, ModelError
from editr1.files import repair_tail, write_atomic, write_json
from editr1.types import EditTask

ROWS_FILE = "edits.jsonl"
SETTINGS_FILE = "editing.json"


@dataclass
class Tally:
    """What became of the edits asked for.

    Attributes:
        made: by this run.
        before: found finished.
        failures: one sentence for each task that could not be edited.
    """

    made: int = 0
    before: int = 0
    failures: list[str] = field(default_factory=list)


def read_tasks(path: str | Path) -> Iterator[EditTask | BadRow]:
    """Tasks from JSONL: {"source", "instruction"} and, if known, "id", "principles", "kind".

    Paths start from the file's folder. A row that cannot be read is reported in its place.

    Raises:
        DataError: if there is no such file, or it is not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file of tasks at {path}")
    seen: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # JSON's texts may hold what else ends a line
    except UnicodeDecodeError as exc:
        raise DataError(f"{path} is no text in UTF-8 ({exc.reason} at byte {exc.start}): save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            data = json.loads(line)
            if isinstance(data, dict):  # an edit that is yet to be made: the rest of the row is checked as one
                data = data | {"edited": data.get("source")}
            task = edit_row(data, where=where, folder=path.parent).quadruple.task
            if task.id in seen:
                raise DataError(f"the id {task.id!r} was there already")
        except ValueError as exc:  # DataError is one
            yield BadRow(where, str(exc))
            continue
        seen.add(task.id)
        yield task


class EditFolder:
    """Finished edits on disk; opening finds what a former run left.

    Args:
        folder: of the edits, made if need be.
        settings: that pictures depend on, beside task and seed.

    Attributes:
        done: ids of finished edits.

    Raises:
        ConfigError: if the folder holds edits that were made with other settings.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        path = self.folder / SETTINGS_FILE
        settings = json.loads(json.dumps(settings))
        if path.is_file():
            former = json.loads(path.read_text(encoding="utf-8"))
            different = [key for key in {**former, **settings} if former.get(key) != settings.get(key)]
            if different:
                raise ConfigError(
                    f"the edits in {self.folder} were made with another {', '.join(different)} "
                    f"(see {SETTINGS_FILE}): name another folder"
                )
        else:
            write_json(path, settings)
        self._rows = self.folder / ROWS_FILE
        repair_tail(self._rows)
        self.done: set[str] = set()
        if self._rows.is_file():
            lines = self._rows.read_text(encoding="utf-8").splitlines(keepends=True)
            there = [line for line in lines if (self.folder / json.loads(line)["edited"]).is_file()]
            if len(there) < len(lines):  # pictures that were taken away are made again
                write_atomic(self._rows, "".join(there))
            self.done = {json.loads(line)["id"] for line in there}

    @staticmethod
    def id(task: EditTask, seed: int) -> str:
        """Of an edit: several seeds of one task are several edits."""
        return f"{task.id}/{seed}"

    def add(self, task: EditTask, seed: int, image: Image.Image, editor: str) -> Path:
        """Write a picture, then its row: a row always has its picture."""
        name = f"pictures/{_file_name(task.id)}-{seed}.png"
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        path = write_atomic(self.folder / name, buffer.getvalue())
        row: dict[str, Any] = {"id": self.id(task, seed), "task": task.id, "edited": name}
        if isinstance(task.source, str | Path):
            row["source"] = Path(os.path.relpath(task.source, self.folder)).as_posix()
        row |= {"instruction": task.instruction, "editor": editor, "seed": seed}
        if task.principles is not None:
            row["principles"] = [principle.to_dict() for principle in task.principles]
        if task.kind is not None:
            row["kind"] = task.kind.value
        with self._rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.done.add(row["id"])
        return path


def edit_into(
    folder: EditFolder,
    editor: PipelineEditor,
    tasks: Iterable[EditTask | BadRow],
    seeds: Sequence[int],
    *,
    steps: int | None = None,
    batch_size: int = 4,
    advance: Callable[[int], None] = lambda number: None,
) -> Tally:
    """Make the edits that a folder lacks: every task with every seed.

    Args:
        folder: keeps them.
        editor: makes them.
        tasks: rows that could not be read are counted as failures.
        seeds: the same for each task.
        steps: of the sampler; the editor's own number if None.
        batch_size: pictures made together; of these only, contexts are held.
        advance: told how many more edits are done, failed or found.

    Raises:
        ModelError: if memory runs out; what was finished is kept.
    """
    tally = Tally()
    rows = iter(tasks)
    while chunk := list(islice(rows, batch_size)):
        jobs = []
        for row in chunk:
            todo = _jobs(folder, editor, row, seeds, tally)
            advance(len(seeds) - len(todo))
            jobs += todo
        contexts, drawn = [job.context for job in jobs], [job.seed for job in jobs]
        try:
            for rollout in sample(editor, contexts, drawn, steps, batch_size=batch_size):
                for position, image in zip(rollout.positions, rollout.images, strict=True):
                    folder.add(jobs[position].task, jobs[position].seed, image, editor.name)
                    tally.made += 1
                    advance(1)
        except torch.OutOfMemoryError as exc:
            raise ModelError(f"the GPU's memory ran out: lower --batch-size or --area ({str(exc)[:80]})") from exc
    return tally


@dataclass(frozen=True, slots=True)
class _Job:
    task: EditTask
    seed: int
    context: Context


def _jobs(
    folder: EditFolder, editor: PipelineEditor, row: EditTask | BadRow, seeds: Sequence[int], tally: Tally
) -> list[_Job]:
    """What is left to be done of a row; nothing, and a failure in the tally, if it cannot be done."""
    if isinstance(row, BadRow):
        tally.failures.append(str(row))
        return []
    todo = [seed for seed in seeds if folder.id(row, seed) not in folder.done]
    tally.before += len(seeds) - len(todo)
    if not todo:
        return []
    try:
        (context,) = editor.encode([row])
    except ImageError as exc:
        tally.failures.append(f"{row.id}: {exc}")
        return []
    return [_Job(row, seed, context) for seed in todo]


def _file_name(identity: str) -> str:
    """An id as a name that any file system takes; ids that differ keep different names."""
    plain = re.sub(r"[^\w.-]+", "_", identity).strip(".")
    if plain == identity and len(plain) <= 100:
        return plain
    return f"{plain[:80]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
