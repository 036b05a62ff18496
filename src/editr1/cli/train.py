"""`editr1 train`: fine-tune verifiers, and train editors by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editr1.cli import display, options, train_ablation, train_gcpo

app = typer.Typer(help="Train verifiers, and editors by them.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _train() -> None:
    """Train verifiers, and editors by them."""


app.command()(train_gcpo.gcpo)
app.command()(train_ablation.ablation)


@app.command()
def sft(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/sft-small.toml.")],
    out: options.OutOption = None,
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

    with display.steps(settings.name) as report:
        folder = train_sft(settings, out or Path("runs") / settings.name, report)
    display.say_finished(folder, settings.name, ship=ship)


@app.command()
def editor(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/editor-nft.toml.")],
    out: options.OutOption = None,
    ship: options.ShipOption = False,
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
        return build_reward(
            settings.rewards, lambda config: options.build_verifier(config, quiet=not display.is_first())
        )

    folder = out or Path("runs") / settings.name
    with display.steps(settings.name) as report:
        trained = train_editor(settings, folder, make_reward, report)
    if display.is_first():
        display.write_verdicts_page(folder, f"Held-out edits before and after: {settings.name}")
    display.say_finished(trained, settings.name, ship=ship, dtype="bfloat16")
