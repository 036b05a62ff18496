"""`editr1 train gcpo`: a fine-tuned verifier is reinforced on human preferences, stage 2 of the method."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from editr1.cli import display, options


def gcpo(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/gcpo.toml.")],
    out: options.OutOption = None,
    ship: options.ShipOption = False,
    overrides: options.SetOption = None,
) -> None:
    """Reinforce a verifier on preference pairs (GCPO). Killed at any time, the same command goes on.

    For several GPUs start it with  accelerate launch -m editr1 train gcpo RECIPE.
    """
    from editr1.config import load
    from editr1.training.gcpo.recipe import GcpoRecipe

    settings = load(GcpoRecipe, recipe, overrides or ())
    folder = out or Path("runs") / settings.name
    _need_trl()
    from editr1.training.gcpo.run import train_gcpo

    with display.steps(settings.name) as advance:

        def report(row: dict[str, Any]) -> None:
            advance({**row, "steps": settings.steps})
            _say_measured(row)

        model = train_gcpo(settings, folder, report)
    if display.is_first():
        display.write_verdicts_page(folder, f"Held-out pairs before and after: {settings.name}")
        typer.echo(f"{model}: finished; score with  editr1 score --model {model} ...")
        if ship:
            from editr1.training.finish import ship_model

            typer.echo(f"copied to {ship_model(model, settings.name)}")


def _need_trl() -> None:
    from importlib.util import find_spec

    from editr1.errors import MissingExtraError

    if any(find_spec(name) is None for name in ("trl", "datasets", "accelerate")):
        raise MissingExtraError("training", "train")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each start otherwise


def _say_measured(row: dict[str, Any]) -> None:
    """A line for each measurement on held-out pairs."""
    if "heldout/strict" in row and display.is_first():
        strict, ties, failed = (row[f"heldout/{name}"] for name in ("strict", "ties", "failed"))
        typer.echo(
            f"step {row['step']}: of the held-out pairs, {100 * strict:.1f} % right, {100 * ties:.1f} % ties, "
            f"{100 * failed:.1f} % without a score",
            err=True,
        )
