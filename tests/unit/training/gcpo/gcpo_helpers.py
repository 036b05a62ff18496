"""A tiny random model and a few simulated pairs, for tests of GCPO."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from trl import GRPOConfig

from editr1.judges.testing import tiny_qwen
from editr1.training.gcpo import GCPOTrainer
from editr1.training.gcpo.data import Halves, load_pairs
from editr1.training.gcpo.stickers import write_sticker_preferences
from editr1.verifier.template import load_template

ROLLOUTS = 3


def by_hash(text: str, principles: Any, truncated: bool) -> tuple[float, str]:
    """A score for any nonsense, so that a random model's rollouts differ; about one in five has none."""
    number = int(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:6], 16) % 5
    return (float("nan") if number == 4 else float(number)), text[:10]


def write_pairs(folder: Path, number: int = 8) -> Path:
    """Simulated pairs as Parquet."""
    write_sticker_preferences(folder, {"train": ("gcpo-test", number)})
    return folder / "train.parquet"


def settings(folder: Path, **changes: Any) -> GRPOConfig:
    """Two pairs a step in four passes, on the CPU."""
    values: dict[str, Any] = {
        "output_dir": str(folder / "trainer"),
        "per_device_train_batch_size": ROLLOUTS,
        "gradient_accumulation_steps": 4,
        "num_generations": ROLLOUTS,
        "max_completion_length": 8,
        "max_steps": 1,
        "learning_rate": 1e-2,
        "beta": 0.0,
        "loss_type": "grpo",
        "scale_rewards": "none",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
    }
    return GRPOConfig(**values | changes)


def make_trainer(folder: Path, *, pairs: Path, changes: dict[str, Any] | None = None, **kwargs: Any) -> GCPOTrainer:
    """A trainer of a fresh tiny model; the same arguments give the same one."""
    model, processor = tiny_qwen(initializer_range=0.05)
    halves = Halves(load_pairs(pairs), load_template("compact"), processor)
    options = {"read": by_hash, **kwargs}
    return GCPOTrainer(
        model, settings(folder, **changes or {}), halves.dataset(), processing_class=processor, **options
    )
