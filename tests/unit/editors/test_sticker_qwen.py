"""The second embedded editor, and the names of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from editr1.editors import build_editor, names, sample, sticker_qwen, wrap
from editr1.editors.sticker_pipeline import count_parameters, save_pipeline
from editr1.editors.sticker_qwen import OPTIONS, Size, learn_tokenizer, make_sticker_qwen, prompt_template
from editr1.errors import ModelError
from editr1.stickers.tasks import sample_task
from editr1.types import EditTask

SMALL = Size(64, 1, 64, 1, 64, 1, 4, (1, 1, 1, 2), 4, 900)


@pytest.fixture(scope="module")
def instructions() -> list[str]:
    return [sample_task("tokenizer", number).instruction for number in range(600)]


@pytest.fixture(scope="module")
def pipeline(instructions: list[str]) -> Any:
    before = dict(sticker_qwen.SIZES)
    sticker_qwen.SIZES["small"] = SMALL
    try:
        made: Any = make_sticker_qwen("small", instructions)
    finally:
        sticker_qwen.SIZES.update(before)
    with torch.no_grad():
        for parameter in made.transformer.parameters():
            if parameter.ndim == 2:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made


def test_the_template_is_cut_where_the_picture_begins(instructions: list[str]) -> None:
    """As with Qwen's own tokenizer: what is left are the picture, the instruction, and the answer's beginning."""
    tokenizer = learn_tokenizer(instructions, 1024)
    template, cut = prompt_template()
    kept = tokenizer.decode(tokenizer(template.format("remove the cat")).input_ids[cut:])
    assert kept.startswith("<|vision_start|>")
    assert "remove the cat<|im_end|>" in kept
    lengths = [len(tokenizer(sample_task("test", n).instruction).input_ids) for n in range(300)]
    assert max(lengths) <= 40
    assert sum(lengths) / len(lengths) < 14
    with pytest.raises(ModelError, match="larger than 300"):
        learn_tokenizer(instructions, 300)


def test_it_is_small_enough_to_ship() -> None:
    """Of the real size, whose tokenizer is learnt from few texts here: under 25 MB in bfloat16."""
    counts = count_parameters(make_sticker_qwen("small", ["remove the cat"]))
    assert sum(counts.values()) * 2 < 25e6, counts


def test_at_noise_level_0_it_is_the_pipeline(
    pipeline: Any, make_task: Callable[..., EditTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline shows sources at 1024x1024, whatever is asked for; here at the area of the options."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as module

    original = module.calculate_dimensions
    monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio: original(OPTIONS.reference_area, ratio))
    editor, task = wrap(pipeline, OPTIONS), make_task(size=(96, 96))
    (context,) = editor.encode([task])
    assert (context.geometry.tokens, context.geometry.references) == (36, ((6, 6),))
    assert "negative" not in context.tensors  # one forward a step
    found = next(sample(editor, [context], [3], 3)).final
    generator = torch.Generator().manual_seed(3)
    arguments: Any = editor.pipeline_arguments(task)
    expected = pipeline(**arguments, num_inference_steps=3, generator=generator, output_type="latent").images
    assert found.std() > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_it_is_saved_and_loaded(pipeline: Any, make_task: Callable[..., EditTask], tmp_path: Path) -> None:
    folder = save_pipeline(pipeline, tmp_path / "model", OPTIONS, dtype="bfloat16")
    editor = build_editor(folder, device="cpu", dtype="float32")
    assert type(editor.pipeline).__name__ == "QwenImageEditPipeline"
    assert editor.options.true_cfg_scale == 1.0
    task = make_task(size=(96, 96))
    one, two = (e.encode([task])[0].tensors["prompt"] for e in (wrap(pipeline, OPTIONS), editor))
    torch.testing.assert_close(one, two, rtol=0, atol=0.1)  # bfloat16
    assert next(sample(editor, editor.encode([task]), [0], 2)).images[0].size == (96, 96)


@pytest.mark.parametrize("name", ["embedded", "sticker-kontext-small", "sticker-qwen-small"])
def test_a_name_that_did_not_ship_says_how_to_make_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MODELS_FOLDER", tmp_path)
    with pytest.raises(ModelError, match=r"train-editor recipes/sticker/editor-\w+-base.toml --ship"):
        build_editor(name)
    folder = tmp_path / names.SHIPPED_EDITORS[name]
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    assert names.resolve_editor(name) == str(folder)
    assert names.resolve_editor("black-forest-labs/FLUX.1-Kontext-dev") == "black-forest-labs/FLUX.1-Kontext-dev"


@pytest.mark.parametrize("name", sorted(names.SHIPPED_LORAS))
def test_weights_that_did_not_ship_say_how_to_make_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MODELS_FOLDER", tmp_path)
    with pytest.raises(
        ModelError, match=rf"train editor recipes/sticker/editor-flow-grpo.toml --set name={name} --ship"
    ):
        names.resolve_lora(name)
    (tmp_path / name).mkdir()
    (tmp_path / name / names.LORA_FILE).touch()
    assert names.resolve_lora(name) == str(tmp_path / name)
    assert names.resolve_lora("owner/some-lora") == "owner/some-lora"
