"""`editr1 curate`: from pictures with instructions to reasoning traces, stage 1 of the method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editr1.cli import options
from editr1.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.progress import Progress

    from editr1.curation.estimate import Estimate
    from editr1.curation.recipe import CurationRecipe
    from editr1.curation.run import CurationResult


def curate(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/curate.toml.")],
    out: options.OutOption = None,
    overrides: options.SetOption = None,
    engine: Annotated[str, typer.Option("--engine", help="process, or ray (extra `ray`).")] = "process",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Workers of the engine ray.")] = 2,
    address: Annotated[
        str | None, typer.Option("--address", help="Of a Ray cluster; none starts a local one.", show_default=False)
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again where calls timed out or ended in an error.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Do nothing but reckon what a run of the paper's size would take.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest or the estimate as JSON.")] = False,
) -> None:
    """Make reasoning traces for fine-tuning a verifier: select, decompose, edit, trace, verify, choose, export.

    Killed at any time, the same command goes on, and asks no judge twice.
    """
    from editr1.config import load
    from editr1.curation.recipe import CurationRecipe

    settings = load(CurationRecipe, recipe, overrides or ())
    folder = out or Path("runs") / settings.name
    if estimate:
        _print_estimate(_reckon(settings, folder), as_json=as_json)
        return
    result = _run(settings, folder, engine, workers, address, retry_failed=retry_failed)
    if as_json:
        typer.echo((folder / "manifest.json").read_text(encoding="utf-8"))
    else:
        _print_result(result)
    if not sum(result.rows.values()):
        raise DataError(f"not one row came out: see why in {folder / 'rejects.jsonl'}")


def _run(
    settings: CurationRecipe, folder: Path, engine: str, workers: int, address: str | None, *, retry_failed: bool
) -> CurationResult:
    from editr1.curation.engines import ENGINES
    from editr1.curation.run import Curation

    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}: use one of {', '.join(ENGINES)}")
    made = ENGINES[engine](workers, address) if engine == "ray" else ENGINES[engine]()
    with _progress() as progress:
        bars: dict[str, int] = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, total=total)  # type: ignore[arg-type]

        return Curation(settings, folder, engine=made, retry_failed=retry_failed, on_progress=on_progress).run()


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _reckon(settings: CurationRecipe, folder: Path) -> Estimate:
    import json

    from editr1.curation.estimate import estimate
    from editr1.curation.workshop import Workshop

    manifest = folder / "manifest.json"
    measured = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None
    return estimate(Workshop(settings, folder / "journal"), measured)


def _print_result(result: CurationResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "in", "out", "rejected", "failed in part", "calls", "tokens", box=None, pad_edge=False)
    for stage, summary in result.stages.items():
        calls = sum(spent.calls for spent in summary.spent.values())
        tokens = sum(spent.prompt_tokens + spent.completion_tokens for spent in summary.spent.values())
        lost = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.rejects.items()))
        failed = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.failures.items()))
        table.add_row(stage, str(summary.inputs), str(summary.outputs), lost, failed, f"{calls:,}", f"{tokens:,}")
    console = Console()
    console.print(table, markup=False)
    rows = ", ".join(f"{count} {split}" for split, count in result.rows.items())
    typer.echo(f"\n{result.folder}: {rows}")


def _print_estimate(found: Estimate, *, as_json: bool) -> None:
    data = found.to_dict()
    if as_json:
        import json

        typer.echo(json.dumps(data, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    title = f"ESTIMATE for {found.contexts:,} contexts and {found.quadruples:,} quadruples"
    table = Table("stage", "calls", "prompt tokens", "answer tokens", "GPU-hours", "cost", "storage", title=title)
    for row in [*data["stages"], {"stage": "total", **data["total"]}]:
        table.add_row(
            row["stage"],
            f"{row['calls']:,}",
            f"{row['prompt_tokens'] / 1e6:,.1f} M",
            f"{row['completion_tokens'] / 1e6:,.1f} M",
            f"{row['gpu_hours']:,.0f}",
            f"{row['cost']:,.0f}",
            f"{row['bytes'] / 1e9:,.1f} GB",
        )
    Console().print(table)
    typer.echo("It assumes:")
    for text in found.assumptions:
        typer.echo(f"- {text}")
