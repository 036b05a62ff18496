"""A whole curation run, on disk: every stage over every shard, then the export and the manifest.

    runs/<name>/
      config.json, environment.json
      work/<stage>/<shard>-<key>.parquet   finished work; the key names stage, settings and the records it was made of
      journal/<stage>/<shard>/*.jsonl      every judge's answers, as they came
      export/data/{train,validation}-*.parquet, export/README.md
      rejects.jsonl, manifest.json

What is there under its key is not made again: a killed run goes on, a changed prompt or model makes anew what follows
from it, and answers that were paid for are found in the journal whatever else changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from editr1.curation import shards
from editr1.curation.engines import Engine, InProcessEngine, ShardTask
from editr1.curation.export import COLUMNS as EXPORT_COLUMNS
from editr1.curation.export import export, in_holdout
from editr1.curation.journal import Spent
from editr1.curation.manifest import StageSummary, card, manifest, summarize
from editr1.curation.recipe import CurationRecipe
from editr1.curation.records import StageResult, content_id
from editr1.curation.select import Pick, Plan, plan_selection, read_picks
from editr1.curation.workshop import STAGES, JudgeBuilder, Workshop
from editr1.errors import DataError
from editr1.files import write_atomic, write_json
from editr1.rundir import RunDir

OnProgress = Callable[[str, int, int], None]
"""Called as `on_progress(stage, done, total)`; of contexts for "select", else of shards."""


@dataclass(slots=True)
class CurationResult:
    """Where the export is, what is in it, and what each stage did."""

    folder: Path
    rows: dict[str, int] = field(default_factory=dict)
    stages: dict[str, StageSummary] = field(default_factory=dict)


class Curation:
    """A run in a folder.

    Args:
        recipe: what is to be done.
        folder: of the run; a former run there is continued.
        engine: who runs the shards.
        build: how judges are made; for tests.
        retry_failed: make shards anew in which something timed out or ended in an error.
        on_progress: told as work is finished.
    """

    def __init__(
        self,
        recipe: CurationRecipe,
        folder: str | Path,
        *,
        engine: Engine | None = None,
        build: JudgeBuilder | None = None,
        retry_failed: bool = False,
        on_progress: OnProgress = lambda stage, done, total: None,
    ) -> None:
        self.recipe = recipe
        self.folder = Path(folder)
        self.engine = engine or InProcessEngine()
        self.retry_failed = retry_failed
        self.on_progress = on_progress
        self.workshop = Workshop(recipe, self.folder / "journal", build=build, retry_failed=retry_failed)
        self.work = self.folder / "work"
        self.stages: dict[str, StageSummary] = {}

    def run(self) -> CurationResult:
        """Do what is missing.

        Returns:
            where the export is, and what each stage did.

        Raises:
            ConfigError, DataError, MissingExtraError: if the recipe cannot be carried out.
            JudgeError, ModelError: if a judge or editor cannot work; the same run goes on from there.
        """
        self.workshop.check()
        RunDir.create(
            self.folder, self.recipe.model_dump(mode="json"), seeds={"curation": self.recipe.seed}, resume=True
        )
        started = time.monotonic()
        files = [{"select": path} for path in self.select()]
        self.stages["select"].wall_seconds = time.monotonic() - started
        for stage in STAGES[1:]:
            started = time.monotonic()
            self.run_stage(stage, files)
            self.stages[stage].wall_seconds = time.monotonic() - started
        rows = self.export(files)
        result = CurationResult(self.folder / "export", rows, self.stages)
        self._report(result)
        return result

    def select(self) -> list[Path]:
        """The shards of selected contexts, made if they are not there."""
        fingerprint = self.workshop.fingerprint("select")[:12]
        folder = self.work / "select"
        plan_file, done_file = folder / f"plan-{fingerprint}.json", folder / f"done-{fingerprint}.json"
        if not plan_file.is_file() or self.retry_failed:
            done_file.unlink(missing_ok=True)
            self._plan(fingerprint, plan_file)
        data = json.loads(plan_file.read_text(encoding="utf-8"))
        if not _all_there(done_file):
            picks = [Pick(**pick) for pick in data["picks"]]
            names = [path.name for path in self._write_contexts(picks, fingerprint)]
            write_json(done_file, {"files": names})
        paths = [folder / name for name in json.loads(done_file.read_text(encoding="utf-8"))["files"]]
        self.stages["select"] = StageSummary.of_select(data, len(paths))
        if not paths:
            raise DataError(f"no context was selected of {len(self.workshop.source)}: see {plan_file}")
        return paths

    def _plan(self, fingerprint: str, file: Path) -> None:
        recipe, spent, started = self.recipe.select, dict[str, Spent](), time.monotonic()

        def filter_batch(name: str, contexts: Any) -> StageResult[Any]:
            done = self.workshop.filter_batch(f"{fingerprint}/{name}", contexts)
            for judge, took in done.spent.items():
                spent[judge] = spent.get(judge, Spent())
                spent[judge] += took
            return done.result

        plan: Plan = plan_selection(
            self.workshop.source,
            random=recipe.random,
            hard=recipe.hard,
            seed=self.recipe.seed,
            pass_rate=recipe.pass_rate,
            batch=self.recipe.shard_size,
            filter_batch=filter_batch,
            on_progress=lambda done: self.on_progress("select", done, recipe.random + recipe.hard),
        )
        data = {
            "looked_at": plan.looked_at,
            "picks": [asdict(pick) for pick in plan.picks],
            "rejects": [reject.to_dict() for reject in plan.rejects],
            "spent": {name: took.to_dict() for name, took in spent.items()},
            "seconds": round(time.monotonic() - started, 3),
        }
        write_json(file, data)

    def _write_contexts(self, picks: list[Pick], fingerprint: str) -> Iterator[Path]:
        contexts = read_picks(self.workshop.source, picks)
        for number, some in enumerate(iter(lambda: list(islice(contexts, self.recipe.shard_size)), [])):
            key = content_id(fingerprint, [c.id for c in some])[:12]
            path = self.work / "select" / f"{number:05d}-{key}.parquet"
            if not path.is_file():
                meta = {"stage": "select", "fingerprint": fingerprint, "out": len(some)}
                shards.write_table(path, shards.COLUMNS["select"], map(shards.to_row, some), meta)
            yield path

    def run_stage(self, stage: str, files: list[dict[str, Path]]) -> None:
        """Do a stage's work on every shard; adds its file to each of `files`."""
        fingerprint = self.workshop.fingerprint(stage)
        before = STAGES[STAGES.index(stage) - 1]
        tasks = []
        for number, of_shard in enumerate(files):
            key = content_id(fingerprint, shards.read_ids(of_shard[before]))[:12]
            name = f"{number:05d}"
            out = self.work / stage / f"{name}-{key}.parquet"
            if not out.is_file() or (self.retry_failed and _may_be_better(shards.read_meta(out))):
                former = sorted(str(p) for p in out.parent.glob(f"{name}-*.parquet")) if stage == "edit" else []
                before_files = {s: str(path) for s, path in of_shard.items()}
                tasks.append(ShardTask(stage, name, before_files, str(out), tuple(former)))
            of_shard[stage] = out
        done = len(files) - len(tasks)
        self.on_progress(stage, done, len(files))
        for _ in self.engine.run(self.workshop, tasks):
            done += 1
            self.on_progress(stage, done, len(files))
        self.stages[stage] = summarize(stage, (shards.read_meta(of_shard[stage]) for of_shard in files))

    def export(self, files: list[dict[str, Path]]) -> dict[str, int]:
        """Write the data set from the chosen traces; returns the number of rows of each split."""
        folder = self.folder / "export" / "data"
        fingerprint = self.workshop.fingerprint("export")
        splits = ("train", "validation") if self.recipe.export.holdout else ("train",)
        written, counts = set[Path](), dict.fromkeys(splits, 0)
        for number, of_shard in enumerate(files):
            key = content_id(fingerprint, shards.read_ids(of_shard["choose"]))
            outs = {split: folder / f"{split}-{number:05d}.parquet" for split in splits}
            note = self.work / "export" / f"{number:05d}.json"
            rows = _rows_if_current(note, key, outs)
            if rows is None:
                rows = self._export_shard(of_shard, outs, key)
                write_json(note, {"key": key, "rows": rows})
            for split, count in rows.items():
                counts[split] += count
                if count:
                    written.add(outs[split])
            self.on_progress("export", number + 1, len(files))
        for stale in set(folder.glob("*.parquet")) - written:
            stale.unlink()
        return counts

    def _export_shard(self, of_shard: dict[str, Path], outs: dict[str, Path], key: str) -> dict[str, int]:
        chosen = shards.load_records("choose", of_shard)
        rows: dict[str, list[dict[str, Any]]] = {split: [] for split in outs}
        for row in export(chosen, template=self.workshop.template, modes=self.recipe.export.modes):
            rows["validation" if in_holdout(row["context"], self.recipe.export.holdout) else "train"].append(row)
        for split, some in rows.items():
            if some:  # `datasets` cannot read a file without rows
                shards.write_table(outs[split], EXPORT_COLUMNS, some, {"key": key})
        return {split: len(some) for split, some in rows.items()}

    def _report(self, result: CurationResult) -> None:
        data = manifest(self.recipe, self.workshop, result.stages, result.rows)
        write_json(self.folder / "manifest.json", data)
        lines = (
            json.dumps({"stage": stage, **reject}, ensure_ascii=False)
            for stage, summary in result.stages.items()
            for reject in summary.reject_rows
        )
        write_atomic(self.folder / "rejects.jsonl", "".join(f"{line}\n" for line in lines))
        write_atomic(result.folder / "README.md", card(self.recipe, self.workshop, result.stages, result.rows))


def _all_there(done_file: Path) -> bool:
    """Whether the selected contexts are written, and nobody has removed any since."""
    if not done_file.is_file():
        return False
    names = json.loads(done_file.read_text(encoding="utf-8"))["files"]
    return all((done_file.parent / name).is_file() for name in names)


def _may_be_better(meta: dict[str, Any]) -> bool:
    """Whether something in a shard failed in a way that may be gone by now."""
    kinds = [reject["kind"] for reject in meta["rejects"]] + list(meta["failures"])
    return any(kind in ("timeout", "error", "missing", "no verdict") for kind in kinds)


def _rows_if_current(note: Path, key: str, outs: dict[str, Path]) -> dict[str, int] | None:
    """How many rows each split got of a shard, if its files are what would be written now."""
    if not note.is_file():
        return None
    data = json.loads(note.read_text(encoding="utf-8"))
    rows: dict[str, int] = data["rows"]
    current = data["key"] == key and rows.keys() == outs.keys()
    whole = all(outs[s].is_file() and shards.read_meta(outs[s])["key"] == key for s, count in rows.items() if count)
    return rows if current and whole else None
