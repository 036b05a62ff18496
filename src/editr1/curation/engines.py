"""Engines: who runs a stage's shards. They differ in where, and in nothing else: work lies on disk, named by content.

The in-process engine takes one shard after the other; within it, judges have as many calls under way as their
concurrency allows. The Ray engine hands shards to workers of Ray Data, each with judges of its own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from editr1.curation import shards
from editr1.curation.recipe import CurationRecipe
from editr1.curation.workshop import STAGES, Workshop
from editr1.errors import Editr1Error, JudgeError, MissingExtraError


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One stage's work on one shard.

    Attributes:
        name: of the shard: its number.
        files: this shard's files of the stages before, by stage.
        out: the file to be written.
        former: other files of this stage for the same shard.
    """

    stage: str
    name: str
    files: dict[str, str]
    out: str
    former: tuple[str, ...] = ()


def run_shard(workshop: Workshop, task: ShardTask) -> None:
    """Do a stage's work on one shard and write its file.

    Raises:
        JudgeError, ModelError: if a judge or editor cannot work; what was finished is kept in the journals.
    """
    started = time.monotonic()
    before = STAGES[STAGES.index(task.stage) - 1]
    records = shards.load_records(before, {stage: Path(path) for stage, path in task.files.items()})
    former = [Path(path) for path in task.former]
    done = workshop.process(task.stage, records, task.name, former=former)
    meta = {
        "stage": task.stage,
        "fingerprint": workshop.fingerprint(task.stage),
        "in": len(records),
        "out": len(done.result.records),
        "rejects": [reject.to_dict() for reject in done.result.rejects],
        "failures": dict(sorted(done.result.failures.items())),
        "spent": {name: spent.to_dict() for name, spent in sorted(done.spent.items())},
        "seconds": round(time.monotonic() - started, 3),
    }
    rows = map(shards.to_row, done.result.records)
    shards.write_table(Path(task.out), shards.COLUMNS[task.stage], rows, meta)
    workshop.note_written(task.stage, Path(task.out))
    if task.stage == "edit":
        workshop.kept_edits(task.name).clear()


class Engine(Protocol):
    """Runs tasks in any order; yields each task's name when its file is written."""

    def run(self, workshop: Workshop, tasks: Sequence[ShardTask]) -> Iterator[str]:
        """Run all tasks.

        Raises:
            JudgeError, ModelError: as `run_shard`; files that were written stay.
        """
        ...


class InProcessEngine:
    """One shard after the other, in this process."""

    def run(self, workshop: Workshop, tasks: Sequence[ShardTask]) -> Iterator[str]:
        """Run all tasks, in order."""
        for task in tasks:
            run_shard(workshop, task)
            yield task.name


class RayEngine:
    """Shards over the workers of a Ray cluster, through Ray Data; needs the extra `ray`.

    Every worker makes the recipe's judges anew, so that `concurrency` is each worker's own; the work folder must be
    on a disk that all of them see.

    Args:
        workers: how many work side by side.
        address: of a cluster; None starts a local one.
    """

    def __init__(self, workers: int = 2, address: str | None = None) -> None:
        self.workers = workers
        self.address = address

    def run(self, workshop: Workshop, tasks: Sequence[ShardTask]) -> Iterator[str]:
        """Run all tasks; the order in which they end is any."""
        try:
            import ray
            import ray.data
        except ImportError as exc:
            raise MissingExtraError("the engine 'ray'", "ray") from exc
        if not tasks:
            return
        if not ray.is_initialized():
            cpus = self.workers if self.address is None else None
            ray.init(address=self.address, num_cpus=cpus, include_dashboard=False, log_to_driver=False)
        logging.getLogger("ray").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one of ours
        rows = ray.data.from_items(
            [{"task": json.dumps(asdict(task))} for task in tasks], override_num_blocks=len(tasks)
        ).map(
            _RayWorker,  # type: ignore[arg-type]
            fn_constructor_args=(
                workshop.recipe.model_dump_json(),
                str(workshop.journals.absolute()),
                bool(workshop.forget),
                workshop.build,
            ),
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(tasks))),
        )
        for row in rows.iter_rows():
            if row["error"]:
                raise JudgeError(row["error"])
            yield row["name"]


class _RayWorker:
    """One worker: a workshop of its own."""

    def __init__(self, recipe: str, journals: str, retry_failed: bool, build: Callable[..., Any]) -> None:
        self.workshop = Workshop(
            CurationRecipe.model_validate_json(recipe), Path(journals), build=build, retry_failed=retry_failed
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        task = ShardTask(**json.loads(row["task"]))
        try:
            run_shard(self.workshop, task)
        except Editr1Error as exc:  # told by the driver, in one sentence
            return {"name": task.name, "error": str(exc)}
        return {"name": task.name, "error": ""}


ENGINES: dict[str, Callable[..., Engine]] = {"process": InProcessEngine, "ray": RayEngine}
"""Engines by the name that the command line knows them by."""
