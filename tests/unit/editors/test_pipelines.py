"""At noise level 0 the sampler is the pipeline's own: `__call__` of diffusers is the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from editr1.editors import EditorOptions, PipelineEditor, sample, wrap
from editr1.editors.testing import KONTEXT_OPTIONS, tiny_kontext, tiny_qwen_edit
from editr1.errors import ModelError
from editr1.images import load_image
from editr1.types import EditTask

Make = Callable[..., PipelineEditor]
MakeTask = Callable[..., EditTask]

CASES = {
    "kontext": {},
    "kontext at another guidance": {"guidance_scale": 4.0},
    "kontext with true CFG": {"true_cfg_scale": 3.0, "negative_prompt": "blurry, low quality"},
    "kontext-undistilled with true CFG": {"true_cfg_scale": 2.0, "negative_prompt": ""},
    "qwen": {},
    "qwen without CFG": {"true_cfg_scale": 1.0},
    "qwen with another negative": {"true_cfg_scale": 2.5, "negative_prompt": "blurry"},
    "qwen-plus": {},
    "qwen-2511": {},
}


def pipeline_result(editor: PipelineEditor, task: EditTask, seed: int, steps: int, output: str) -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    arguments: dict[str, Any] = editor.pipeline_arguments(task)
    made = editor.pipeline(**arguments, num_inference_steps=steps, generator=generator, output_type=output)
    assert isinstance(made.images, torch.Tensor)
    return made.images


@pytest.mark.usefixtures("small_qwen_pictures")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(32, 32), (64, 32)], ids=["square", "wide"])
def test_the_ode_is_the_pipeline(make_editor: Make, make_task: MakeTask, case: str, size: tuple[int, int]) -> None:
    """Latents and pixels differ by less than 1e-4, although latents are of the order of 1 to 20."""
    editor = make_editor(case.split()[0], area=size[0] * size[1], **CASES[case])
    task = make_task(size=size)
    (rollout,) = sample(editor, editor.encode([task]), [7], 4)
    expected = pipeline_result(editor, task, 7, 4, "latent")
    assert rollout.final.std() > 0.5
    torch.testing.assert_close(rollout.final, expected, rtol=0, atol=1e-4)
    pixels = editor.decode_tensor(rollout.final, rollout.geometry)
    torch.testing.assert_close(pixels, pipeline_result(editor, task, 7, 4, "pt"), rtol=0, atol=1e-4)
    assert rollout.images[0].size == (rollout.geometry.width, rollout.geometry.height)


@pytest.mark.parametrize("name", ["kontext", "qwen", "qwen-plus"])
def test_everything_that_a_picture_depends_on_matters(make_editor: Make, make_task: MakeTask, name: str) -> None:
    """Or the agreement above could be that of two samplers that both ignore it."""
    editor = make_editor(name, true_cfg_scale=3.0, negative_prompt="blurry")

    def final(editor: PipelineEditor, task: EditTask, seed: int = 7, steps: int = 4) -> torch.Tensor:
        (rollout,) = sample(editor, editor.encode([task]), [seed], steps, decode=False)
        return rollout.final

    base = final(editor, make_task())
    changed = {
        "instruction": final(editor, make_task("add a bird")),
        "picture": final(editor, make_task(seed=1)),
        "seed": final(editor, make_task(), seed=8),
        "steps": final(editor, make_task(), steps=5),
        "negative prompt": final(make_editor(name, true_cfg_scale=3.0, negative_prompt="hello"), make_task()),
        "scale": final(make_editor(name, true_cfg_scale=1.5, negative_prompt="blurry"), make_task()),
    }
    for what, latents in changed.items():
        assert (latents - base).abs().max() > 0.02, what


@pytest.mark.parametrize("name", ["kontext", "qwen"])
def test_sampling_together_is_sampling_alone(make_editor: Make, make_task: MakeTask, name: str) -> None:
    """Texts of different lengths too: they are padded, and masked where the model sees the padding."""
    editor = make_editor(name)
    tasks = [make_task("hello"), make_task("make the picture darker and the car red", seed=1)]
    contexts = editor.encode(tasks)
    together = next(sample(editor, [*contexts, contexts[0]], [1, 2, 3], 4)).final
    alone = [next(sample(editor, [c], [s], 4)).final for c, s in zip([*contexts, contexts[0]], (1, 2, 3), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)
    lengths = {len(context.tensors["prompt"]) for context in contexts}
    assert len(lengths) == (1 if name == "kontext" else 2)


def test_sigmas_are_shifted_by_the_number_of_tokens(make_editor: Make, make_task: MakeTask) -> None:
    """FLUX's schedule by hand: mu is 0.5 at 256 tokens and 1.15 at 4096; sigma = e^mu / (e^mu + 1/t - 1).

    512x512 with cells of 8 pixels are 4096 tokens; for 4 steps t is 1, 0.75, 0.5, 0.25, and e^1.15 = 3.158193:
    3.158193 / (3.158193 + 1/3) = 0.904531, 3.158193 / 4.158193 = 0.759511, 3.158193 / 6.158193 = 0.512844.
    """
    editor = make_editor("kontext", area=512 * 512)
    (context,) = editor.encode([make_task()])
    assert context.geometry.tokens == 4096
    expected = torch.tensor([1.0, 0.904531, 0.759511, 0.512844, 0.0])
    torch.testing.assert_close(editor.sigmas(4, context.geometry), expected, rtol=0, atol=1e-6)


def test_the_schedule_of_qwen_ends_at_its_terminal(make_editor: Make, make_task: MakeTask) -> None:
    editor = make_editor("qwen")
    sigmas = editor.sigmas(10, editor.encode([make_task()])[0].geometry)
    assert sigmas[0] == 1
    assert sigmas[-2].item() == pytest.approx(0.02, abs=1e-6)
    assert sigmas[-1] == 0


@pytest.mark.parametrize(
    ("size", "expected"), [((1000, 500), (472, 944)), ((64, 64), (664, 664)), ((300, 900), (1160, 384))]
)
def test_kontext_keeps_the_aspect(
    make_editor: Make, make_task: MakeTask, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """450000 pixels at 2:1 are 474.3 x 948.7, at 1:1 670.8 x 670.8, at 1:3 1161.9 x 387.3; cut to multiples of 8."""
    editor = make_editor("kontext", area=450_000, reference_area=None)
    geometry = editor.geometry(load_image(make_task(size=size).source))
    assert (geometry.height, geometry.width) == expected


def test_kontext_shows_the_source_at_a_size_it_was_trained_on(make_editor: Make, make_task: MakeTask) -> None:
    """2:1 is nearest to 1456x720 (ratio 2.02) of its seventeen sizes; cells of 8 pixels make 90 x 182 tokens."""
    editor = make_editor("kontext", reference_area=None)
    assert editor.geometry(load_image(make_task(size=(1000, 500)).source)).references == ((90, 182),)


def test_qwen_plus_shows_its_encoder_a_smaller_picture(make_editor: Make, make_task: MakeTask) -> None:
    """32x32 are 2x2 picture tokens in the encoder, 64x64 are 4x4: 12 tokens fewer; the VAE's 8x8 cells stay."""
    small, large = make_editor("qwen-plus"), make_editor("qwen-plus", condition_area=64 * 64)
    (few,), (many,) = small.encode([make_task()]), large.encode([make_task()])
    assert len(many.tensors["prompt"]) - len(few.tensors["prompt"]) == 12
    assert few.geometry == many.geometry
    assert few.geometry.references == ((8, 8),)


@pytest.mark.parametrize(("name", "number"), [("kontext", 12 + 5), ("qwen", 2 * 12)])
def test_lora_goes_to_attention_and_mlps_of_every_block(make_editor: Make, name: str, number: int) -> None:
    """Kontext: 8 + 4 in its double block, 5 in its single one; Qwen: 8 + 4 in each of two."""
    editor = make_editor(name)
    modules = dict(editor.pipeline.transformer.named_modules())
    targets = editor.lora_targets
    assert len(targets) == len(set(targets)) == number
    assert all(isinstance(modules[target], torch.nn.Linear) for target in targets)
    assert not [t for t in targets if "norm" in t or "mod" in t or "embed" in t or t == "proj_out"]


@pytest.mark.parametrize(("name", "fresh"), [("kontext", tiny_kontext), ("qwen", tiny_qwen_edit)])
def test_a_lora_on_the_targets_loads_in_plain_diffusers(
    name: str, fresh: Callable[[], Any], make_editor: Make, make_task: MakeTask, tmp_path: Path
) -> None:
    """Saved as the pipeline saves it, a LoRA on all targets gives the same picture in a fresh pipeline."""
    from peft import LoraConfig, get_peft_model_state_dict

    plain = make_editor(name)
    editor = wrap(fresh(), plain.options)
    transformer = editor.pipeline.transformer
    transformer.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=editor.lora_targets))
    layers = get_peft_model_state_dict(transformer)
    assert len(layers) == 2 * len(editor.lora_targets)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    editor.pipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata={"r": 2, "lora_alpha": 4, "target_modules": editor.lora_targets},
    )
    reloaded = wrap(fresh(), plain.options)
    reloaded.pipeline.load_lora_weights(tmp_path)

    contexts = plain.encode([make_task()])
    trained = next(sample(editor, contexts, [3], 4)).final
    torch.testing.assert_close(next(sample(reloaded, contexts, [3], 4)).final, trained, rtol=0, atol=1e-5)
    assert (next(sample(plain, contexts, [3], 4)).final - trained).abs().max() > 0.1


def test_encoders_can_leave(make_task: MakeTask) -> None:
    editor = wrap(tiny_kontext(), KONTEXT_OPTIONS)
    contexts = editor.encode([make_task()])
    before = next(sample(editor, contexts, [1], 2)).final
    editor.move_encoders("cpu")
    editor.release_encoders()
    assert editor.pipeline.text_encoder_2 is None
    assert torch.equal(next(sample(editor, contexts, [1], 2)).final, before)
    with pytest.raises(ModelError, match="let go of"):
        editor.encode([make_task("add a bird")])


def test_only_deterministic_euler_schedulers() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

    pipeline = tiny_kontext()
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ModelError, match="FlowMatchHeunDiscreteScheduler"):
        wrap(pipeline, KONTEXT_OPTIONS)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    with pytest.raises(ModelError, match="stochastic"):
        wrap(pipeline, KONTEXT_OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("plus", [False, True])
def test_qwen_at_the_pipelines_own_areas(plus: bool, make_task: MakeTask) -> None:
    """Nothing patched: the source is seen at 1024x1024, by a VAE that compresses 32 times; the edit is 192x192."""
    editor = wrap(tiny_qwen_edit(plus=plus, levels=6), EditorOptions(area=192 * 192))
    task = make_task()
    (rollout,) = sample(editor, editor.encode([task]), [7], 3)
    assert rollout.geometry.references == ((16, 16),)
    torch.testing.assert_close(rollout.final, pipeline_result(editor, task, 7, 3, "latent"), rtol=0, atol=1e-4)
