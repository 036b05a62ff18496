"""A tiny random editor on disk, tasks on pictures of noise, and rewards without a model, for tests of editor RL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from editr1.editors.sticker_pipeline import save_pipeline
from editr1.editors.testing import KONTEXT_OPTIONS, QWEN_OPTIONS, tiny_kontext, tiny_qwen_edit
from editr1.images import load_image
from editr1.rewards import EditSample, RewardResult
from editr1.training.editor.recipe import EditorRecipe
from editr1.types import VerdictStatus


def write_editor(folder: Path, kind: str = "kontext") -> Path:
    """A pipeline of random weights."""
    pipeline, options = {
        "kontext": (tiny_kontext, KONTEXT_OPTIONS),
        "qwen": (tiny_qwen_edit, QWEN_OPTIONS),
    }[kind]
    return save_pipeline(pipeline(), folder, options)


def write_tasks(folder: Path, number: int = 8) -> Path:
    """Pictures of noise, each with an instruction."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for n in range(number):
        pixels = np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
        kind = "tone_transfer" if n % 2 else "subject-add"
        lines.append({"id": f"t{n}", "source": f"{n}.png", "instruction": f"make it brighter, {n}", "kind": kind})
    path = folder / "tasks.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def brightness(sample: EditSample) -> float:
    """Of an edited picture, in [0, 1]."""
    return float(np.asarray(load_image(sample.edited)).mean()) / 255


class Scored:
    """A reward by a function of the sample: a number, a status for a failure, or an exception to be raised.

    Args:
        score: of a sample.
        before: called before each batch.
    """

    name = "scored"

    def __init__(
        self,
        score: Callable[[EditSample], float | VerdictStatus] = brightness,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._score, self._before = score, before

    def score(self, samples: Sequence[EditSample], *, on_result: Any = None) -> list[RewardResult]:
        self._before()
        found = [self._score(sample) for sample in samples]
        return [
            RewardResult.failed(value, "it broke") if isinstance(value, VerdictStatus) else RewardResult.of(value)
            for value in found
        ]


def make_recipe(editor: Path, tasks: Path, **changes: Any) -> EditorRecipe:
    """Two groups of four pictures in three steps; what is given replaces its settings."""
    base: dict[str, Any] = {
        "name": "tiny",
        "editor": str(editor),
        "contexts": {"path": str(tasks), "format": "tasks", "count": 6},
        "rewards": {"judge": {"kind": "verifier"}},
        "group_size": 4,
        "contexts_per_step": 2,
        "steps": 3,
        "sampling": {"steps": 4},
        "lora": {"rank": 4, "alpha": 8.0},
        "learning_rate": 1e-2,
        "precision": "fp32",
        "save_every": 1,
        "device": "cpu",
    }
    if changes.get("train") == "full":
        del base["lora"]
    return EditorRecipe.model_validate(base | changes)


def rows(folder: Path) -> list[dict[str, Any]]:
    """Metrics without what depends on the clock."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "seconds_", "samples_per_second")
    return [{key: value for key, value in row.items() if not key.startswith(timed)} for row in found]
