"""The exported LoRA in plain diffusers, for both kinds of pipeline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from editor_helpers import make_recipe
from safetensors import safe_open

from editr1.editors import wrap
from editr1.editors.base import EditorOptions
from editr1.editors.names import LORA_FILE, SHIPPED_LORAS
from editr1.editors.testing import KONTEXT_OPTIONS, QWEN_OPTIONS, tiny_kontext, tiny_qwen_edit
from editr1.judges.names import MODELS_FOLDER
from editr1.training.editor.export import _loading, write_lora
from editr1.training.editor.policy import Policy
from editr1.types import EditTask


@pytest.mark.parametrize(
    ("make", "options"), [(tiny_kontext, KONTEXT_OPTIONS), (tiny_qwen_edit, QWEN_OPTIONS)], ids=["kontext", "qwen"]
)
@torch.no_grad()
def test_diffusers_loads_the_weights_that_were_trained(
    make: Callable[[], Any], options: EditorOptions, tmp_path: Path
) -> None:
    """Same velocity with alpha = 3 at rank 4; whoever takes alpha to be the rank is right too."""
    trained = wrap(make(), options)
    policy = Policy(trained, make_recipe(tmp_path, tmp_path, lora={"rank": 4, "alpha": 3.0}), ())
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters.values():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    write_lora(trained.pipeline, tmp_path, {name: p.detach().clone() for name, p in policy.parameters.items()})

    plain = make()
    before = wrap(plain, options)
    task = EditTask("t", torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy(), "remove the cat")
    (context,) = trained.encode([task])
    batch, latents = trained.batch([context]), trained.noise(context.geometry, [generator])
    ours, untrained = trained.velocity(latents, 0.6, batch), before.velocity(latents, 0.6, batch)
    plain.load_lora_weights(tmp_path)
    theirs = wrap(plain, options).velocity(latents, 0.6, batch)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    assert (ours - untrained).abs().max() > 0.05, "the LoRA says nothing, so nothing was tested"

    with safe_open(tmp_path / LORA_FILE, "pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
        assert all(name.startswith("transformer.") and ".lora_" in name for name in file.keys())  # noqa: SIM118
    assert metadata["transformer.lora_alpha"] == metadata["transformer.r"] == 4


@pytest.mark.parametrize(
    ("editor", "lora", "line"),
    [
        ("sticker-kontext-small", True, 'editor = build_editor("sticker-kontext-small", lora="path/to/this/folder")'),
        ("embedded", True, 'editor = build_editor("embedded", lora="path/to/this/folder")'),
        ("owner/editor", True, 'pipeline = DiffusionPipeline.from_pretrained("owner/editor")'),
        ("embedded", False, 'pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")'),
    ],
)
def test_a_card_says_how_to_load_what_it_is_of(editor: str, lora: bool, line: str) -> None:
    """A name of ours means nothing to diffusers, which would ask the hub for it."""
    code = _loading(editor, lora=lora)
    compile(code, "card", "exec")
    assert line in code
    assert ("load_lora_weights" in code) is (editor == "owner/editor")


def test_the_cards_of_loras_that_ship_load_them() -> None:
    for name in SHIPPED_LORAS:
        text = (MODELS_FOLDER / name / "README.md").read_text()
        (line,) = re.findall(r"^editor = build_editor.*$", text, re.MULTILINE)
        assert "from editr1.editors import build_editor" in text
        base = re.search(r"^base_model: (.*)$", text, re.MULTILINE)[1]
        assert f'build_editor("{base}", lora="path/to/this/folder")' in line
