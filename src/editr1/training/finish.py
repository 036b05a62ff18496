"""After a training: how long it took, on what machine, and the model's place in the package."""

from __future__ import annotations

import json
import platform
import shutil
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from editr1.files import write_json
from editr1.judges.names import MODEL_FILES, MODELS_FOLDER


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


def name_base(adapter: Path, base: str) -> None:
    """Write into a LoRA adapter's folder which model it belongs to: as the recipe calls it, not where it lies here."""
    config = adapter / MODEL_FILES[1]
    write_json(config, json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": base})


def ship_model(model_folder: Path, name: str, dtype: str | None = None) -> Path:
    """Copy a finished model into the package, in place of the one that is there; returns its new folder.

    Args:
        model_folder: with the model's files.
        name: of its folder in the package.
        dtype: that its weights are kept in there, e.g. "bfloat16"; None leaves them as they are.
    """
    target = MODELS_FOLDER / name
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(model_folder, target)
    if dtype is not None:
        for path in target.rglob("*.safetensors"):
            _convert(path, getattr(torch, dtype))
    return target


def _convert(path: Path, dtype: torch.dtype) -> None:
    """A file of weights, in place."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file({key: tensor.to(dtype) for key, tensor in load_file(path).items()}, path, metadata=about)
