"""Held-out contexts edited with fixed seeds and scored while an editor learns; some pictures are kept, side by side."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from editr1.datasets.edits import EditRow
from editr1.datasets.verdicts import VerdictFile
from editr1.editors.cache import ContextCache
from editr1.editors.pipeline import PipelineEditor
from editr1.editors.sampling import sample_images
from editr1.files import write_atomic
from editr1.images import load_image
from editr1.rewards.base import RewardResult
from editr1.rundir import MetricsLog, RunDir
from editr1.training.editor.contexts import Contexts, derive_seed, usable
from editr1.training.editor.recipe import EditorEvalRecipe
from editr1.training.editor.rollouts import Gather, Group, Scoring, samples_of, share, untouched_source, wait
from editr1.training.editor.watch import GroupRecord, reward_metrics
from editr1.types import EditTask, EditVerdict, Quadruple

ROWS_FILE = "edits.jsonl"
_GAP = 4


@dataclass(frozen=True, slots=True)
class Shown:
    """An edit to be kept, as it travels between processes."""

    slot: int
    task: EditTask
    source: bytes
    edited: bytes
    result: RewardResult


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Edits the same contexts with the same first noise each time, and scores them with the rewards of training.

    Attributes:
        seed: of the run.
        steps: of the sampler.
        scoring: makes a fresh `Scoring`.
        rank, processes: which contexts this process edits.
        even: all processes make the same number of forwards, which sharded weights need.
    """

    recipe: EditorEvalRecipe
    editor: PipelineEditor
    cache: ContextCache
    contexts: Contexts
    scoring: Callable[[], Scoring]
    gather: Gather
    watched: tuple[str, ...]
    seed: int
    steps: int
    rank: int
    processes: int
    even: bool

    def run(self) -> tuple[dict[str, float], list[Shown]]:
        """Metrics as of `reward_metrics`, the same in all processes, and the edits to be kept, by slot.

        Raises:
            RewardError: if the reward as a whole cannot work. Failures of single edits are counted, and do not stop.
        """
        number = len(self.contexts)
        share_size = -(-number // self.processes)
        slots = [slot % number for slot in range(self.rank, share_size * self.processes, self.processes)]
        scoring = self.scoring()
        groups: list[Group] = []
        together = 1 if self.even else max(self.recipe.batch_size // self.recipe.seeds, 1)
        for start in range(0, len(slots), together):
            for group in self._edit(slots[start : start + together]):
                scoring.add(samples_of(group, "eval"))
                groups.append(group)
        results = wait(scoring)
        records = share(groups, results, self.gather)
        shown = [
            Shown(group.slot, group.task, _png(load_image(group.task.source)), _png(group.images[0]), found[0])
            for group, found in zip(groups, () if isinstance(results, str) else results, strict=True)
            if group.slot < self.recipe.pictures
        ]
        everything = {edit.slot: edit for edit in self.gather(list(shown))}
        return self._metrics(records), [everything[slot] for slot in sorted(everything)]

    def _edit(self, slots: Sequence[int]) -> list[Group]:
        seeds = self.recipe.seeds
        tasks = [usable(self.contexts, slot) for slot in slots]
        contexts = self.cache.get(tasks)
        drawn = [derive_seed(self.seed, "eval", slot, number) for slot in slots for number in range(seeds)]
        repeated = [context for context in contexts for _ in range(seeds)]
        images = sample_images(self.editor, repeated, drawn, self.steps, batch_size=self.recipe.batch_size)
        return [
            Group(
                slot, task, (), tuple(images[n * seeds : (n + 1) * seeds]), untouched_source(self.editor, context, task)
            )
            for n, (slot, task, context) in enumerate(zip(slots, tasks, contexts, strict=True))
        ]

    def _metrics(self, records: Sequence[GroupRecord]) -> dict[str, float]:
        once = list({record.slot: record for record in records}.values())  # shares are filled up with repetitions
        metrics = reward_metrics(once, self.watched)
        of_groups = ("zero_variance", "group_std", *(("diversity",) if self.recipe.seeds == 1 else ()))
        return {f"eval_{name}": value for name, value in metrics.items() if name not in of_groups}


class Pictures:
    """Writes the edits of evaluations into a run directory.

        samples/source/<slot>.png
        samples/step-000020/<slot>.png
        samples/step-000020.png         rows of source | before training | now
        samples/edits.jsonl             a line for each edit, which `editr1 score` reads
        verdicts.jsonl                  those with a verdict, which `editr1 report` reads

    Args:
        run: the run directory.
        after: step that the run resumes from: rows of later ones are dropped.
    """

    def __init__(self, run: RunDir, after: int) -> None:
        self._run = run
        with MetricsLog(run.samples / ROWS_FILE, after=after):
            pass

    def keep(self, step: int, shown: Sequence[Shown]) -> None:
        """Write the edits of a step; those of step 0 are what later ones are laid beside."""
        rows: list[list[Image.Image]] = []
        judged: list[tuple[EditRow, EditVerdict]] = []
        with MetricsLog(self._run.samples / ROWS_FILE) as log:
            for edit in shown:
                name = f"{edit.slot:03d}.png"
                source = write_atomic(self._run.samples / "source" / name, edit.source)
                edited = write_atomic(self._run.samples / f"step-{step:06d}" / name, edit.edited)
                before = self._run.samples / "step-000000" / name
                log.write(step, **_row(edit, step, f"source/{name}", f"step-{step:06d}/{name}"))
                verdict = _verdict(edit.result)
                if verdict is not None:
                    task = EditTask("", source, edit.task.instruction, edit.task.principles, edit.task.kind)
                    row = EditRow(f"{edit.task.id}@{step}", "", Quadruple(task, edited, f"step {step}"))
                    judged.append((row, verdict))
                files = [source, *([before] if before.is_file() else []), edited]
                rows.append([load_image(file) for file in files])
        if rows:
            write_atomic(self._run.samples / f"step-{step:06d}.png", _png(_grid(rows)))
        if judged:
            with VerdictFile(self._run.path / "verdicts.jsonl") as file:
                for row, verdict in judged:
                    file.append(row, verdict)


def _row(edit: Shown, step: int, source: str, edited: str) -> dict[str, Any]:
    task, result = edit.task, edit.result
    return {
        "id": f"{task.id}@{step}",
        "task": task.id,
        "source": source,
        "edited": edited,
        "instruction": task.instruction,
        "kind": None if task.kind is None else task.kind.value,
        "editor": f"step {step}",
        "reward": result.value,
        "status": result.status.value,
        "parts": {name: part.value for name, part in result.parts.items()},
    }


def _verdict(result: RewardResult) -> EditVerdict | None:
    own = result.verdict
    return own or next((part.verdict for part in result.parts.values() if part.verdict is not None), None)


def _grid(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures in rows, each as high as the first of its row."""
    fitted = [
        [image.resize((max(round(image.width * row[0].height / image.height), 1), row[0].height)) for image in row]
        for row in rows
    ]
    width = max(sum(image.width + _GAP for image in row) for row in fitted) - _GAP
    sheet = Image.new("RGB", (width, sum(row[0].height + _GAP for row in fitted) - _GAP), "white")
    top = 0
    for row in fitted:
        left = 0
        for image in row:
            sheet.paste(image, (left, top))
            left += image.width + _GAP
        top += row[0].height + _GAP
    return sheet


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
