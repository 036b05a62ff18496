"""Editors by path, and the embedded one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from editr1.editors import EDITORS, EditorOptions, build_editor, sample, wrap
from editr1.editors.sticker_pipeline import (
    OPTIONS,
    SIZES,
    TEXT_TOKENS,
    count_parameters,
    make_sticker_kontext,
    save_pipeline,
    set_latent_scale,
)
from editr1.editors.testing import KONTEXT_OPTIONS, QWEN_OPTIONS, tiny_kontext, tiny_qwen_edit
from editr1.editors.tokenizers import learn_clip_tokenizer, learn_t5_tokenizer
from editr1.errors import ConfigError, ModelError
from editr1.stickers.tasks import sample_task
from editr1.types import EditTask

MakeTask = Callable[..., EditTask]


@pytest.fixture(scope="module")
def instructions() -> list[str]:
    return [sample_task("train", number).instruction for number in range(1500)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tiny_kontext(), tmp_path_factory.mktemp("kontext"), KONTEXT_OPTIONS)


@pytest.mark.parametrize("kind", ["kontext", "qwen", "plus"])
def test_what_is_saved_loads_and_paints_the_same(kind: str, make_task: MakeTask, tmp_path: Path) -> None:
    pipeline = tiny_kontext() if kind == "kontext" else tiny_qwen_edit(plus=kind == "plus")
    options = KONTEXT_OPTIONS if kind == "kontext" else QWEN_OPTIONS
    save_pipeline(pipeline, tmp_path, options)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    made, loaded = wrap(pipeline, options), build_editor(tmp_path, device="cpu")
    assert type(made) is type(loaded)
    assert loaded.options == made.options
    expected, found = (next(sample(editor, editor.encode([make_task()]), [3])) for editor in (made, loaded))
    assert found.steps == 4
    for name in count_parameters(pipeline):
        one, two = getattr(pipeline, name).state_dict(), getattr(loaded.pipeline, name).state_dict()
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name
    # weights that lie elsewhere in memory may take other kernels: the last bits differ, of latents up to 20
    torch.testing.assert_close(found.final, expected.final, rtol=0, atol=1e-3)


def test_options_are_laid_over_those_of_the_folder(saved: Path) -> None:
    editor = build_editor(saved, options=EditorOptions(steps=9, negative_prompt="x"), dtype="bfloat16")
    assert (editor.steps, editor.options.area, editor.options.negative_prompt) == (9, 1024, "x")
    assert editor.options.guidance_scale == 2.5  # of the kind of pipeline
    assert editor.pipeline.transformer.dtype == torch.bfloat16


def test_the_fingerprint_follows_the_weights(saved: Path, tmp_path: Path) -> None:
    same, other, half = (
        build_editor(saved),
        build_editor(save_pipeline(tiny_kontext(seed=1), tmp_path, KONTEXT_OPTIONS)),
        build_editor(saved, dtype="bfloat16"),
    )
    assert same.fingerprint == build_editor(saved).fingerprint
    assert len({same.fingerprint, other.fingerprint, half.fingerprint}) == 3


@pytest.mark.parametrize(
    ("content", "message"), [("{", "editr1.json holds no options"), ('{"aera": 4}', "area"), ('{"area": 0}', "area")]
)
def test_options_that_cannot_be_read(saved: Path, tmp_path: Path, content: str, message: str) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    (folder / "editr1.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        build_editor(folder)


def test_models_that_are_not_there(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(ModelError, match="there is no editor"):
        build_editor(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no model_index\.json"):
        build_editor(tmp_path)
    with pytest.raises(ConfigError, match="'float31'"):
        build_editor(saved, dtype="float31")
    with pytest.raises(ConfigError, match="'gpu0'"):
        build_editor(saved, device="gpu0")


def test_a_pipeline_without_an_editor_names_those_with_one() -> None:
    class StableDiffusionPipeline:
        pass

    with pytest.raises(ModelError, match=r"StableDiffusionPipeline.*FluxKontextPipeline"):
        wrap(StableDiffusionPipeline())
    assert set(EDITORS) == {"FluxKontextPipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline"}


@pytest.mark.parametrize("make", [tiny_kontext, tiny_qwen_edit])
def test_the_tiny_ones_are_tiny_and_repeatable(make: Callable[[], object]) -> None:
    first, second = make(), make()
    assert sum(count_parameters(first).values()) < 500_000
    for name in count_parameters(first):
        one, two = getattr(first, name).state_dict(), getattr(second, name).state_dict()
        assert all(torch.equal(one[key], two[key]) for key in one), name


@pytest.mark.parametrize(("size", "least", "most"), [("small", 5e6, 10e6), ("large", 14e6, 16e6)])
def test_the_embedded_editor(
    size: str, least: float, most: float, instructions: list[str], make_task: MakeTask, tmp_path: Path
) -> None:
    pipeline = make_sticker_kontext(size, instructions)
    counts = count_parameters(pipeline)
    assert least < sum(counts.values()) < most, counts
    folder = save_pipeline(pipeline, tmp_path, dtype="bfloat16")
    assert next(pipeline.transformer.parameters()).dtype == torch.float32
    editor = build_editor(folder)
    assert (type(editor.pipeline).__name__, editor.options.area, editor.steps) == ("FluxKontextPipeline", 96 * 96, 12)
    (rollout,) = sample(editor, editor.encode([make_task(size=(96, 96))]), [0], 2)
    assert (rollout.geometry.tokens, rollout.geometry.references) == (36, ((6, 6),))
    assert rollout.images[0].size == (96, 96)
    assert set(SIZES) == {"small", "large"}


def test_every_instruction_of_the_domain_fits(instructions: list[str]) -> None:
    """Held-out ones too: words are tokens, and few are spelt."""
    held_out = [sample_task("test", number).instruction for number in range(1500)]
    for tokenizer in (
        learn_t5_tokenizer(instructions, 1024, TEXT_TOKENS),
        learn_clip_tokenizer(instructions, 1024, TEXT_TOKENS),
    ):
        lengths = [len(ids) for ids in tokenizer(held_out).input_ids]
        assert max(lengths) <= TEXT_TOKENS
        assert sum(lengths) / len(lengths) < 14


def test_tokenizers_take_any_text() -> None:
    """CLIP's goes down to bytes, in lower case; T5's spells what it does not know, and what is no ASCII is unknown."""
    clip = learn_clip_tokenizer(["a cat"], 600, 40)
    text = "a zebra, naïve ❤ 42!"
    assert clip.unk_token_id == clip.eos_token_id
    assert clip(text).input_ids.count(clip.eos_token_id) == 1
    assert clip.decode(clip(text).input_ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")

    t5 = learn_t5_tokenizer(["A cat.", "a cat"], 200, 40)
    assert t5.convert_ids_to_tokens(t5("cat zoo ❤").input_ids) == ["▁cat", "▁", "z", "o", "o", "▁", "<unk>", "</s>"]
    with pytest.raises(ValueError, match="alone are 514"):
        learn_clip_tokenizer(["a"], 500, 40)
    with pytest.raises(ValueError, match="alone are"):
        learn_t5_tokenizer(["a"], 50, 40)


def test_the_latent_scale_makes_unit_variance(instructions: list[str], make_task: MakeTask) -> None:
    pipeline = make_sticker_kontext("small", instructions[:100])
    pixels = torch.rand(4, 3, 96, 96) * 2 - 1
    with torch.no_grad():
        set_latent_scale(pipeline, pipeline.vae.encode(pixels).latent_dist.mode())
        editor = wrap(pipeline, OPTIONS)
        latents = torch.cat([editor._to_latents(one[None]) for one in pixels])
    assert latents.mean().item() == pytest.approx(0, abs=1e-4)
    assert latents.std().item() == pytest.approx(1, abs=1e-4)


def test_options_are_plain_json(saved: Path) -> None:
    assert json.loads((saved / "editr1.json").read_text()) == {
        "area": 1024,
        "reference_area": 1024,
        "steps": 4,
        "max_text_tokens": 24,
    }


def test_a_lora_of_another_editor_is_refused(saved: Path) -> None:
    """diffusers would leave out what has no place, and edit on."""
    with pytest.raises(ModelError, match=r"(belongs to another model|is it for another)"):
        build_editor("embedded", lora="sticker-qwen-small-rl-gcpo-large")
    with pytest.raises(ModelError, match=r"(belongs to another model|is it for another)"):
        build_editor(saved, lora="sticker-kontext-small-rl-gcpo-small")


def test_a_lora_that_is_not_there_is_not_the_editors_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no LoRA.*did you mean 'sticker-kontext-small-rl-gcpo-small'"):
        build_editor("embedded", lora="sticker-kontext-small-rl-gpco-small")
    with pytest.raises(ModelError, match=r"holds no LoRA \(no pytorch_lora_weights.safetensors in it\)"):
        build_editor("embedded", lora=tmp_path)
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "pytorch_lora_weights.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="did you mean .*lora"):
        build_editor("embedded", lora=tmp_path)
    with pytest.raises(ModelError, match=r"the LoRA .* cannot be put on the editor"):
        build_editor("embedded", lora=tmp_path / "lora")
