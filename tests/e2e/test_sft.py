"""Fine-tuning as users run it: commands in processes of their own, SIGKILL, and two processes by accelerate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from editr1.judges.testing import tiny_qwen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RECIPE = """
name = "tiny"
model = "{model}"
data = ["{data}"]
steps = 8
batch_size = 4
micro_batch_size = 2
learning_rate = 1e-3
warmup = 1
precision = "fp32"
gradient_checkpointing = false
log_every = 1
save_every = 2
workers = 0
device = "cpu"

[held_out]
every = 4
edits = 2
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    return os.environ | {"HF_DATASETS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A recipe for a tiny random model, on an export that the command made."""
    folder = tmp_path_factory.mktemp("sft")
    repository = Path(__file__).parents[2]
    curate = ["curate", str(repository / "recipes/sticker/curate.toml"), "--out", str(folder / "curated")]
    for override in ("source.count=60", "select.random=6", "select.hard=4", "export.holdout=0.3"):
        curate += ["--set", override]
    subprocess.run([sys.executable, "-m", "editr1", *curate], check=True, env=environment)
    tiny_qwen(folder / "parent", hidden_size=32, vision_hidden_size=16, initializer_range=0.05)
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(model=folder / "parent", data=folder / "curated"))
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path, environment: dict[str, str]) -> Path:
    """A run that nobody disturbed."""
    folder = recipe.parent / "whole"
    done = subprocess.run(command(recipe, folder), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'model'}: finished\n"
    return folder


def command(recipe: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "editr1", "train", "sft", str(recipe), "--out", str(out)]


def rows_of(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_kill_9_and_go_on(recipe: Path, environment: dict[str, str], whole: Path) -> None:
    folder = recipe.parent / "killed"
    process = subprocess.Popen(command(recipe, folder), env=environment, stderr=subprocess.DEVNULL)
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and metrics.read_bytes().count(b'"loss"') >= 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (folder / "checkpoints/latest").read_text() in ("step-000004\n", "step-000006\n")
    assert not (folder / "model").exists()
    subprocess.run(command(recipe, folder), env=environment, check=True)
    assert rows_of(folder) == rows_of(whole)
    one, two = (load_file(f / "model/model.safetensors") for f in (whole, folder))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_processes_match_one(recipe: Path, environment: dict[str, str], whole: Path) -> None:
    """The same steps, shared by two processes over gloo: the same losses, figures and weights, up to rounding."""
    folder = recipe.parent / "two"
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--main_process_port", "0", "-m", *command(recipe, folder)[2:]]
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("finished") == 1
    one, two = rows_of(whole), rows_of(folder)
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for alone, shared in zip(one, two, strict=True):
        for name, value in alone.items():
            assert shared[name] == pytest.approx(value, rel=1e-3, abs=1e-5), (alone["step"], name)
    first, second = (load_file(f / "checkpoints/step-000008/model.safetensors") for f in (whole, folder))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.allclose(first[name], second[name], atol=2e-4), name
