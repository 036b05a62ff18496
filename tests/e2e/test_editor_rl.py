"""`editr1 train editor` from end to end, in real processes: killed, resumed, shared by two, sharded over two."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RECIPE = """
name = "tiny"
editor = "editor"
group_size = 4
contexts_per_step = 2
steps = 6
learning_rate = 1e-2
precision = "fp32"
save_every = 1
device = "cpu"
contexts = {path = "tasks/tasks.jsonl", format = "tasks", count = 6}
sampling = {steps = 4}
ema = {decay = 0.5, every = 1}
LORA

# How many pixels stay: a reward that needs no model. A random editor's pictures differ enough in it.
[rewards.judge]
kind = "pixels"
tolerance = 100

[grpo]
kl = 0.04
clip = 1e-3

[eval]
every = 3
contexts = {path = "tasks/tasks.jsonl", format = "tasks", first = 6, count = 3}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor, tasks, recipes, and one undisturbed run in a single process."""
    from editor_helpers import write_editor, write_tasks

    folder = tmp_path_factory.mktemp("rl")
    write_editor(folder / "editor")
    tasks = write_tasks(folder / "tasks", 9)
    tasks.write_text(tasks.read_text().replace("tone_transfer", "color_alter"))  # a tone may change every pixel
    (folder / "lora.toml").write_text(RECIPE.replace("LORA", "lora = {rank = 4, alpha = 8.0}"))
    (folder / "full.toml").write_text(RECIPE.replace("LORA", 'train = "full"'))
    finish(start(folder, "whole"))
    return folder


def start(folder: Path, out: str, *options: str, recipe: str = "lora", **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "editr1", "train", "editor", f"{recipe}.toml", "--out", out]
    command += [word for option in options for word in ("--set", option)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_two(folder: Path, out: str, *options: str, recipe: str = "lora") -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true",
    }
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [start(folder, out, *options, recipe=recipe, **shared, **rank) for rank in ranks]


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 0, output[-3000:]


def rows(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "seconds_", "samples_per_second")
    return [{key: value for key, value in row.items() if not key.startswith(timed)} for row in found]


def latest(run: Path) -> int:
    pointer = run / "checkpoints" / "latest"
    return int(pointer.read_text().strip().removeprefix("step-")) if pointer.is_file() else -1


def final(run: Path, name: str = "weights") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{latest(run):06d}" / f"{name}.safetensors")


def test_killed_three_times_it_ends_with_the_same_weights(folder: Path) -> None:
    rng, seen = random.Random(0), -1
    for _ in range(3):
        process = start(folder, "killed")
        while latest(folder / "killed") <= seen and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen = latest(folder / "killed")
    finish(start(folder, "killed"))
    one, two = folder / "whole", folder / "killed"
    for name in ("weights", "ema", "optimizer"):
        whole, killed = final(one, name), final(two, name)
        assert whole.keys() == killed.keys()
        assert all(whole[key].equal(killed[key]) for key in whole), name
    assert rows(one) == rows(two), "no row twice, none lost, none different"
    assert [row["step"] for row in rows(one)] == list(range(7))
    exported = [load_file(run / "lora" / "pytorch_lora_weights.safetensors") for run in (one, two)]
    assert all(exported[0][key].equal(exported[1][key]) for key in exported[0])
    assert any(value.any() for key, value in exported[0].items() if "lora_B" in key), "nothing was learnt"
    assert not [path for path in two.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")], "a pickle"


def test_two_processes_share_one_run(folder: Path) -> None:
    """The same groups and rewards exactly, and the same gradient and weights to rounding."""
    for process in start_two(folder, "two"):
        finish(process)
    ones, twos = rows(folder / "whole"), rows(folder / "two")
    assert [row["step"] for row in twos] == list(range(7))
    exact = ("reward", "reward_std", "group_std", "zero_variance", "unchanged", "reward/subject-add")
    for key in exact:
        assert twos[1][key] == ones[1][key], key
    for key in ("loss", "grad_norm", "kl", "diversity"):  # a loss near 0, for advantages add up to it
        assert twos[1][key] == pytest.approx(ones[1][key], rel=1e-4, abs=1e-6), key
    assert twos[0] == ones[0], "the evaluation before training"
    whole, shared = (load_file(folder / run / "lora" / "pytorch_lora_weights.safetensors") for run in ("whole", "two"))
    for name, value in whole.items():
        torch.testing.assert_close(shared[name], value, rtol=0.05, atol=2e-3)


def test_sharded_weights_train_and_resume(folder: Path) -> None:
    """FSDP2 over two processes on the CPU, against full training in one."""
    changes = ("steps=2", "learning_rate=1e-3", "eval.every=2")
    finish(start(folder, "full", *changes, recipe="full"))
    for process in start_two(folder, "sharded", "shard=true", "steps=1", *changes[1:], recipe="full"):
        finish(process)
    for process in start_two(folder, "sharded", "shard=true", *changes, recipe="full"):
        finish(process)
    ones, twos = rows(folder / "full"), rows(folder / "sharded")
    for key in ("loss", "grad_norm", "reward"):
        assert twos[1][key] == pytest.approx(ones[1][key], rel=1e-3, abs=1e-6), key
    assert twos[2]["grad_norm"] == pytest.approx(ones[2]["grad_norm"], rel=0.05)
    whole, sharded = final(folder / "full"), final(folder / "sharded")
    assert whole.keys() == sharded.keys()
    for name, value in whole.items():
        torch.testing.assert_close(sharded[name], value, rtol=0, atol=5e-3)
    parts = [
        load_file(path) for path in sorted((folder / "sharded" / "pipeline" / "transformer").glob("*.safetensors"))
    ]
    assert sum(len(part) for part in parts) == len(whole)


def test_the_shipped_recipe_with_the_embedded_verifier(folder: Path, repository: Path) -> None:
    """From drawn stickers to a report of verdicts; the editor is an untrained one."""
    from editr1.editors.sticker_pipeline import make_sticker_kontext, save_pipeline
    from editr1.stickers.tasks import sample_task

    texts = [sample_task("texts", number).instruction for number in range(300)]
    save_pipeline(make_sticker_kontext("small", texts), folder / "sticker-editor")
    small = ("editor=sticker-editor", "steps=1", "group_size=2", "contexts_per_step=1", "sampling.steps=2")
    small += ("nft.draws=1", "eval.contexts.count=2", "eval.steps=2", "seed=1")
    recipe = repository / "recipes" / "sticker" / "editor-nft"
    finish(start(folder, "stickers", *small, recipe=str(recipe)))
    found = rows(folder / "stickers")
    assert [row["step"] for row in found] == [0, 1]
    assert {"eval_reward", "eval_watch/truth"} <= found[0].keys()
    assert {"reward", "watch/truth", "unreadable"} <= found[1].keys()
    verdicts = (folder / "stickers" / "verdicts.jsonl").read_text().splitlines()
    assert len(verdicts) == 4
    assert (folder / "stickers" / "report.html").is_file()


def test_groups_are_never_split(folder: Path) -> None:
    for process in start_two(folder, "odd", "contexts_per_step=3"):
        output, _ = process.communicate(timeout=3000)
        assert process.returncode == 2, output
        assert "3 groups of an iteration cannot be shared evenly by 2 processes" in output
