"""After the training of an embedded model: its card, and for a verifier how it wants to be asked."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from editr1.stickers.cards import HELD_OUT, NOTICE, write_card
from editr1.stickers.kinds import SIDE
from editr1.training.finish import machine, training_seconds
from editr1.training.vlm.loop import held_out
from editr1.training.vlm.recipe import VlmRecipe
from editr1.verifier.config import VerifierConfig
from editr1.verifier.template import load_template


def finish_model(model_folder: Path, recipe: VlmRecipe, run_folder: Path) -> None:
    """Measure the finished model on held-out examples, write its card, and for a verifier how it wants to be asked."""
    model = AutoModelForImageTextToText.from_pretrained(model_folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(model_folder)
    figures = held_out(model, processor.tokenizer, recipe.examples, number=HELD_OUT)
    write_card(
        model_folder,
        recipe.model_dump(mode="json"),
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=training_seconds(run_folder / "metrics.jsonl"),
        machine=machine(),
        held_out=figures,
    )
    if recipe.examples != "describe":
        config = VerifierConfig(max_tokens=320, notice=NOTICE, notice_unless=(SIDE, SIDE))
        config.write(model_folder, load_template("compact"))
