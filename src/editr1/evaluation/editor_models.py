"""Evaluation of an editor's finished pictures on a benchmark's tasks, by any judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editr1.evaluation.benchmarks.editors import (
    CategoryTable,
    EditorBenchmark,
    LoadedSamples,
    Sample,
    figures_of,
    summarise,
)
from editr1.evaluation.judgements import Edit, OnJudgement, Scorer
from editr1.evaluation.runs import EvalRun, Progress, image_sizes


@dataclass(frozen=True, slots=True)
class EditorResult:
    """What came of one editor on one benchmark.

    Attributes:
        tables: by language and subset.
        failures: pictures without a score, by status.
    """

    tables: dict[str, CategoryTable]
    failures: dict[str, int]
    judged: int
    progress: Progress


def evaluate_editor(
    benchmark: EditorBenchmark,
    loaded: LoadedSamples,
    run: EvalRun,
    make: Callable[[], Scorer],
    *,
    editor: str = "",
    generation: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 10.0),
    advance: Callable[[int], None] = lambda number: None,
) -> EditorResult:
    """Judge an editor's pictures and write the run directory.

    Args:
        benchmark: with the official protocol.
        loaded: its tasks with the pictures.
        run: keeps the judgements; a second run judges nothing.
        make: makes the judge, if it is needed.
        editor: its name, for the record.
        generation: what the pictures were made with, if that is known.
        retry_failed: ask again where the judge failed.
        seed: of the bootstrap.
        bounds: least and greatest number that the judge gives.
        advance: told how many more judgements are done.

    Raises:
        ConfigError, JudgeError: see `EvalRun.judge`.
    """
    edits = unique_edits(loaded)
    progress = run.judge(edits, make, _score, context=lambda e: e.context, retry_failed=retry_failed, advance=advance)
    tables = summarise(benchmark, loaded.samples, run.judgements, seed, bounds)
    ids = [edit.id for edit in edits]
    result = EditorResult(tables, run.failures(ids), len(ids), progress)
    manifest = {
        "benchmark": benchmark.title,
        "protocol": benchmark.protocol,
        "licence": benchmark.licence,
        "data": {"hash": loaded.hash, "samples": len(loaded.samples)},
        "read_from": {
            "name": loaded.name,
            "revision": loaded.revision,
            "rows": loaded.rows,
            "left_out": loaded.counts,
        },
        "image_sizes": image_sizes(s.size for s in loaded.samples),
        "editor": editor,
        "seed": seed,
    }
    if generation is not None:
        manifest["generation"] = dict(generation)
    figures = {
        "judgements": len(ids),
        "failures": result.failures,
        "tables": {name: table.to_dict() for name, table in tables.items()},
        "published": [{"name": p.name, "figures": dict(p.figures), "note": p.note} for p in benchmark.published],
        "published_table": benchmark.published_table,
        "range": list(bounds),
    }
    run.finish(ids, manifest, figures, loaded.problems, (_row(s, benchmark, run) for s in loaded.samples))
    return result


def unique_edits(loaded: LoadedSamples) -> list[Edit]:
    """Every edit once."""
    return list({s.edit.id: s.edit for s in loaded.samples}.values())


def _row(sample: Sample, benchmark: EditorBenchmark, run: EvalRun) -> dict[str, Any]:
    """A line of `pairs.jsonl`: a task, its figures (none if the picture has no score) and the id of its judgement."""
    data = {name: getattr(sample, name) for name in ("key", "category", "language", "intersection")}
    edit, judgement = sample.edit, run.judgements.get(sample.edit.id)
    return data | {
        "context": edit.context,
        "edit": edit.id,
        "instruction": edit.instruction,
        "pictures": {"source": run.reference(edit.source), "edited": run.reference(edit.edited)},
        "scores": {} if judgement is None else figures_of(judgement, benchmark),
    }


def _score(judge: Any, edits: Sequence[Edit], on_judgement: OnJudgement) -> None:
    judge.score_many(edits, on_judgement=on_judgement)
