"""The model card of a reinforced verifier, written from its run's own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editr1.files import write_json
from editr1.training.cards import said_notice, write_verifier_card
from editr1.training.gcpo.recipe import GcpoRecipe
from editr1.verifier.config import VerifierConfig

_FIGURES = {
    "heldout/strict": "preferred edit scored higher",
    "heldout/ties": "ties",
    "heldout/half_credit": "with half credit for ties",
    "heldout/failed": "without a verdict",
}


def write_card(folder: Path, recipe: GcpoRecipe, asked: VerifierConfig, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write `README.md` and `training.json`, all settings and figures, beside the weights; returns the card's path.

    Args:
        folder: of the model, or of the adapter.
        recipe: of the run.
        asked: how the verifier wants to be asked; its notice is said.
        rows: of the run's metrics.
    """
    measured = [row for row in rows if "heldout/failed" in row]
    write_json(
        folder / "training.json",
        {"recipe": recipe.model_dump(mode="json"), "held_out": [measured[0], measured[-1]] if measured else []},
    )
    lora = recipe.lora
    leash = f", KL to the parent weighted {recipe.beta:g}" if recipe.beta else ""
    trained = "all weights" if lora is None else f"a LoRA adapter, rank {lora.rank}, alpha {lora.alpha:g}"
    return write_verifier_card(
        folder,
        recipe.name,
        recipe.parent,
        how="reinforced on preference pairs by GCPO with editr1, after section 3 of the Edit-R1 paper",
        tag="gcpo",
        facts={
            "Training": f"{trained}; {recipe.steps:,} steps of {recipe.pairs_per_step} pairs with {recipe.rollouts} "
            f"rollouts of each half at temperature {recipe.temperature:g}, peak learning rate "
            f"{recipe.learning_rate:g}, {recipe.schedule} schedule{leash}, seed {recipe.seed}. All settings are in "
            "`training.json`.",
            "Limits": "it has learnt to order edits as its pairs do, by what its parent sees."
            + said_notice(asked.notice),
        },
        about=recipe.about,
        tables=_table(measured),
        library="transformers" if lora is None else "peft",
    )


def _table(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Held-out figures before the first step and after the last."""
    if not measured:
        return []
    first, last = measured[0], measured[-1]
    shown = [(title, key) for key, title in _FIGURES.items() if key in first and key in last]
    rows = [f"| {title} | {100 * first[key]:.1f} | {100 * last[key]:.1f} |" for title, key in shown]
    return ["Held-out pairs, in percent:", "", "| | before | after |", "|---|---|---|", *rows, ""]
