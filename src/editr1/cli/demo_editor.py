"""The second half of `editr1 demo`: the embedded editor learns from the embedded verifier for a few minutes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from editr1.cli import display, options

if TYPE_CHECKING:
    from editr1.training.editor.recipe import EditorRecipe

SHOWN = {
    "eval_reward": "score of the verifier",
    "eval_watch/truth": "utility, by the oracle",
    "eval_unchanged": "share of pictures left as they were",
}
"""Held-out metrics that are laid side by side, and what they are called."""


def improve(out: Path, *, editor: str, verifier: str, steps: int | None, seed: int) -> Path | None:
    """Train the editor with the verifier's scores as reward, and show held-out edits before and after.

    Args:
        out: run directory of the training; a run that is there is continued if it had the same settings.
        editor: name or path.
        verifier: name or path.
        steps: iterations; None takes the demo's.
        seed: of contexts' order, noise and adapters.

    Returns:
        the page with the edits, if some were judged.
    """
    from editr1.rewards import build_reward
    from editr1.training.editor.loop import train_editor

    recipe = demo_recipe(editor, verifier, steps, seed)
    pictures = recipe.contexts_per_step * recipe.group_size
    typer.echo(
        f"\nnow {editor} learns from {verifier}: {recipe.steps} iterations of {pictures} pictures "
        f"({recipe.algorithm}, LoRA)"
    )

    def make_reward() -> Any:
        return build_reward(recipe.rewards, lambda config: options.build_verifier(config, quiet=True))

    with display.steps("editor") as report:
        trained = train_editor(recipe, out, make_reward, report)
    _show(out)
    page = display.write_verdicts_page(out, "editr1 demo: held-out edits before and after")
    typer.echo(f"\nthe LoRA is in {trained}" + (f"; held-out edits before and after: {page}" if page else ""))
    return page


def demo_recipe(editor: str, verifier: str, steps: int | None, seed: int) -> EditorRecipe:
    """The recipe beside this module, with what the command line says."""
    from editr1.config import load
    from editr1.training.editor.recipe import EditorRecipe

    given = [f"editor={json.dumps(editor)}", f"rewards.judge.score.judge.model={json.dumps(verifier)}", f"seed={seed}"]
    if steps is not None:
        given += [f"steps={steps}", f"eval.every={steps}"]
    with as_file(files("editr1.cli") / "demo_editor.toml") as path:
        return load(EditorRecipe, path, given)


def _show(out: Path) -> None:
    """The first and the last held-out measurement side by side."""
    from rich.console import Console
    from rich.table import Table

    from editr1.rundir import RunDir

    rows: list[Mapping[str, Any]] = [row for row in RunDir(out).metrics() if "eval_reward" in row]
    if len(rows) < 2:
        return
    table = Table("held-out contexts", "before", "after", box=None, pad_edge=False)
    for name, title in SHOWN.items():
        if all(name in row for row in (rows[0], rows[-1])):
            table.add_row(title, f"{rows[0][name]:.2f}", f"{rows[-1][name]:.2f}")
    Console().print(table)
    typer.echo("a few iterations are a taste, and so few contexts move by chance: editr1 train editor goes further")
