"""`editr1 train gcpo` from end to end, on the shipped verifier: killed, resumed, measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from editr1 import Verifier
from editr1.reports import load_items

SMALL = {
    "stickers.train": 12,
    "stickers.heldout": 6,
    "rollouts": 3,
    "pairs_per_step": 2,
    "halves_per_pass": 2,
    "steps": 4,
    "warmup": 0,
    "learning_rate": 3e-5,  # more, and the verifier forgets how to write a verdict
    "temperature": 1.2,
    "heldout_pairs": 3,
    "samples": 2,
    "eval_every": 2,
    "save_every": 1,
    "sample_every": 2,
    "keep_checkpoints": 1,
}


def start(folder: Path, out: str, repository: Path) -> subprocess.Popen[str]:
    recipe = repository / "recipes" / "sticker" / "gcpo.toml"
    options = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "datasets"), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "editr1", "train", "gcpo", str(recipe), "--out", out, *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors[-2000:]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_resumed_it_ends_with_the_same_weights(tmp_path: Path, repository: Path) -> None:
    finish(start(tmp_path, "whole", repository))
    process = start(tmp_path, "killed", repository)
    pointer = tmp_path / "killed" / "checkpoints" / "latest"
    deadline = time.monotonic() + 240
    while not pointer.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = int(pointer.read_text().strip().removeprefix("step-"))
    assert done < SMALL["steps"]
    finish(start(tmp_path, "killed", repository))

    whole, killed = (load_file(tmp_path / name / "model" / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all((whole[name] == killed[name]).all() for name in whole)
    assert any(whole[name].any() for name in whole if "lora_B" in name), "nothing was learnt, so nothing was tested"

    one, two = (
        [{k: v for k, v in row.items() if k not in ("time", "step_time")} for row in rows(tmp_path / name)]
        for name in ("whole", "killed")
    )
    assert [row["step"] for row in one] == [0, 1, 2, 3, 4]
    assert one == two, "no row twice, none lost, none different"
    assert {"heldout/strict", "heldout/ties", "heldout/failed"} <= one[0].keys() & one[2].keys() & one[4].keys()
    assert [folder.name for folder in (tmp_path / "whole" / "checkpoints").glob("step-*")] == ["step-000004"]

    kept = [json.loads(line) for line in (tmp_path / "killed" / "samples" / "rollouts.jsonl").read_text().splitlines()]
    assert [r["step"] for r in kept] == [1] * 6 + [2] * 6 + [4] * 6
    ids = {item["id"] for item in load_items(tmp_path / "killed")}
    assert ids == {f"{n}/{half}@{step}" for n in (0, 1) for half in ("preferred", "other") for step in (0, 4)}
    assert (tmp_path / "killed" / "report.html").is_file()
    assert Verifier.from_pretrained(tmp_path / "killed" / "model").template.name == "compact"
