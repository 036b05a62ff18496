"""After the training of an embedded model: its card, the verifier's settings, and its place in the package."""

from __future__ import annotations

import json
import platform
import shutil
from itertools import pairwise
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from editr1.judges.names import MODELS_FOLDER
from editr1.stickers.cards import HELD_OUT, NOTICE, write_card
from editr1.stickers.kinds import SIDE
from editr1.training.recipes import VlmRecipe
from editr1.training.vlm import held_out
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


def training_seconds(metrics: Path) -> float:
    """Seconds of optimisation that a run's log stands for; pauses between a kill and its resumption do not count."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    gaps = sorted(b["time"] - a["time"] for a, b in pairwise(rows))
    if not gaps:
        return 0.0
    usual = gaps[len(gaps) // 2]
    return sum(min(gap, 5 * usual) for gap in gaps) + usual


def machine() -> str:
    """What the training ran on, e.g. "2 CPU cores (AMD EPYC)"."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info, names = Path("/proc/cpuinfo"), []
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{torch.get_num_threads()} CPU cores ({names[0] if names else platform.processor() or platform.machine()})"


def ship_model(model_folder: Path, name: str) -> Path:
    """Copy a finished model into the package, in place of the one that is there; returns its new folder."""
    target = MODELS_FOLDER / name
    if target.exists():
        shutil.rmtree(target)
    return Path(shutil.copytree(model_folder, target))
