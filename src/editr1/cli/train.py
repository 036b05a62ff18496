"""`editr1 train`: fine-tune verifiers, and train editors by them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from editr1.cli import options, train_ablation, train_gcpo

app = typer.Typer(help="Train verifiers, and editors by them.", no_args_is_help=True, rich_markup_mode=None)

OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Run directory (default: runs/<name>).", show_default=False)
]


@app.callback()
def _train() -> None:
    """Train verifiers, and editors by them."""


app.command()(train_gcpo.gcpo)
app.command()(train_ablation.ablation)


@app.command()
def sft(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/sft-small.toml.")],
    out: OutOption = None,
    ship: options.ShipOption = False,
    overrides: options.SetOption = None,
) -> None:
    """Fine-tune a model on the reasoning traces that `editr1 curate` exported.

    Killed at any time, the same command goes on from the last checkpoint. On several GPUs:
    accelerate launch --config_file recipes/accelerate/fsdp2.yaml -m editr1 train sft RECIPE
    """
    from editr1.config import load
    from editr1.training.sft.recipe import SftRecipe

    settings = load(SftRecipe, recipe, overrides or ())
    from editr1.training.sft.trainer import train_sft

    with progress(settings.name) as report:
        folder = train_sft(settings, out or Path("runs") / settings.name, report)
    say(f"{folder}: finished" + (f", copied to {_shipped(folder, settings.name)}" if ship and is_first() else ""))


def _shipped(model: Path, name: str) -> Path:
    from editr1.training.finish import ship_model

    return ship_model(model, name)


@app.command()
def editor(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/editor-nft.toml.")],
    out: OutOption = None,
    overrides: options.SetOption = None,
) -> None:
    """Train an editor by reinforcement learning with a verifier's scores (Flow-GRPO or DiffusionNFT).

    Killed at any time, the same command goes on from the last checkpoint. On several GPUs:
    accelerate launch --multi_gpu -m editr1 train editor RECIPE
    """
    from editr1.config import load
    from editr1.training.editor.recipe import EditorRecipe

    settings = load(EditorRecipe, recipe, overrides or ())
    from editr1.rewards import Reward, build_reward
    from editr1.training.editor.loop import train_editor

    def make_reward() -> Reward:
        return build_reward(settings.rewards, lambda config: options.build_verifier(config, quiet=not is_first()))

    folder = out or Path("runs") / settings.name
    with progress(settings.name) as report:
        trained = train_editor(settings, folder, make_reward, report)
    if is_first():
        _report_edits(folder, settings.name)
    say(f"{trained}: finished")


def _report_edits(folder: Path, name: str) -> None:
    """A page of the held-out edits that were judged, before training and after."""
    if (folder / "verdicts.jsonl").is_file():
        from editr1.reports import load_items, write_report

        write_report(load_items(folder), folder / "report.html", title=f"Held-out edits before and after: {name}")


@contextmanager
def progress(name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on stderr, moved on by rows of metrics that have "step" and "steps"; shown by the first process only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not is_first()) as bars:
        bar = bars.add_task(name, total=None)

        def report(row: dict[str, Any]) -> None:
            shown = next((key for key in ("reward", "loss") if key in row), None)
            text = None if shown is None else f"{name}  {shown} {row[shown]:.3f}"
            bars.update(bar, completed=row["step"], total=row["steps"], description=text)

        yield report


def say(text: str) -> None:
    """Print a line, once for all processes of a launch."""
    if is_first():
        typer.echo(text)


def is_first() -> bool:
    """Whether this is the first of the processes that `accelerate launch` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"
