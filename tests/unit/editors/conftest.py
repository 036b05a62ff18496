"""Pipelines and tasks that the tests of the editors share. Pipelines are made once; no test changes their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editr1.editors import PipelineEditor, wrap
from editr1.editors.testing import KONTEXT_OPTIONS, QWEN_OPTIONS, tiny_kontext, tiny_qwen_edit
from editr1.types import EditTask

MAKERS: dict[str, Callable[[], Any]] = {
    "kontext": tiny_kontext,
    "kontext-undistilled": lambda: tiny_kontext(guidance_embeds=False),
    "qwen": tiny_qwen_edit,
    "qwen-plus": lambda: tiny_qwen_edit(plus=True),
    "qwen-2511": lambda: tiny_qwen_edit(plus=True, zero_cond_t=True),
}


@pytest.fixture(scope="session")
def make_task() -> Callable[..., EditTask]:
    """Tasks on pictures of noise, in which every pixel matters."""

    def make(instruction: str = "remove the cat", seed: int = 0, size: tuple[int, int] = (32, 32)) -> EditTask:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        return EditTask(f"{instruction}/{seed}/{size[0]}", Image.fromarray(pixels), instruction)

    return make


@pytest.fixture(scope="session")
def make_editor() -> Callable[..., PipelineEditor]:
    """Editors by name, with options laid over the small ones."""
    made: dict[str, Any] = {}

    def make(name: str, **options: Any) -> PipelineEditor:
        if name not in made:
            made[name] = MAKERS[name]()
        base = KONTEXT_OPTIONS if name.startswith("kontext") else QWEN_OPTIONS
        return wrap(made[name], base.model_copy(update=options))

    return make


@pytest.fixture
def small_qwen_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Qwen pipelines show the source at 1024x1024, whatever is asked for; here at the areas of QWEN_OPTIONS."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as first
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as plus

    original = first.calculate_dimensions
    monkeypatch.setattr(first, "calculate_dimensions", lambda area, ratio: original(QWEN_OPTIONS.reference_area, ratio))
    monkeypatch.setattr(plus, "VAE_IMAGE_SIZE", QWEN_OPTIONS.reference_area)
    monkeypatch.setattr(plus, "CONDITION_IMAGE_SIZE", QWEN_OPTIONS.condition_area)
