"""Flow matching of the embedded editors: its arithmetic, and that it asks the transformer what sampling asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pretrain_helpers import tiny_trainee

from editr1.stickers.draw import pixels
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.training.pretrain.data import EditMixture, TaskChunks
from editr1.training.pretrain.flow import (
    edit_numbers,
    editor_geometry,
    example_batch,
    flow_loss,
    noise_levels,
    token_weights,
)
from editr1.training.pretrain.latents import LatentStore, Order, encode_chunk
from editr1.training.pretrain.models import Trainee
from editr1.training.pretrain.recipe import EditsRecipe, FlowRecipe


@pytest.fixture(params=["kontext", "qwen"])
def trainee(request: pytest.FixtureRequest) -> Trainee:
    return tiny_trainee(request.param)


def test_noise_levels_by_hand() -> None:
    """With a deviation next to 0, u = 1 / (1 + e^-1) = 0.731059, and at shift 2: 1.462117 / 1.731059 = 0.844638."""
    settings = FlowRecipe(sigma_mean=1.0, sigma_std=1e-9)
    found = noise_levels(3, settings, 2.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, torch.full((3,), 0.844638), rtol=0, atol=1e-6)
    usual = FlowRecipe(sigma_mean=0.0, sigma_std=1.0)
    spread = noise_levels(4001, usual, 2.0, torch.Generator().manual_seed(0))
    assert 0 < spread.min() < 0.1 < 0.95 < spread.max() < 1
    assert spread.median().item() == pytest.approx(2 / 3, abs=0.02)  # u = 1/2: 1 / 1.5


def test_half_of_the_levels_are_next_to_noise() -> None:
    """At shift 2, sigma = 0.9 is u = 0.9 / 1.1 = 0.8182, whose logit is 1.504: the median, at a mean of 1.5."""
    found = noise_levels(4001, FlowRecipe(), 2.0, torch.Generator().manual_seed(0))
    assert found.median().item() == pytest.approx(0.9, abs=0.01)
    assert 0.05 < (found < 0.5).float().mean() < 0.15


def test_token_weights_by_hand() -> None:
    """Of 4 tokens one changed at focus 3: 3, 1, 1, 1, whose mean is 1.5. All changed, or none: 1 everywhere."""
    changed = torch.tensor([[True, False, False, False], [True] * 4, [False] * 4])
    expected = torch.tensor([[2, 2 / 3, 2 / 3, 2 / 3], [1, 1, 1, 1], [1, 1, 1, 1]])
    torch.testing.assert_close(token_weights(changed, 3.0), expected)


def test_loss_by_hand() -> None:
    """x0 = 1, e = 3: the target is 2. Velocities 2 and 5 are off by 0 and 3: 0 * 1.5 + 9 * 0.5 = 4.5, mean 2.25."""
    edited, noise = torch.ones(1, 2, 4), torch.full((1, 2, 4), 3.0)
    velocity = torch.stack([torch.full((4,), 2.0), torch.full((4,), 5.0)])[None]
    assert flow_loss(velocity, edited, noise, torch.tensor([[1.5, 0.5]])).item() == pytest.approx(2.25)


def test_every_epoch_is_a_permutation_and_every_step_a_function_of_its_number() -> None:
    order = Order(10, 4, 3)
    taken = np.concatenate([order(step) for step in range(5)])
    assert sorted(taken[:10]) == sorted(taken[10:]) == list(range(10))
    assert taken[:10].tolist() != taken[10:].tolist()
    assert Order(10, 4, 3)(4).tolist() == taken[16:].tolist()
    assert Order(10, 4, 4)(0).tolist() != taken[:4].tolist()


def examples(trainee: Trainee, tasks: list[StickerTask], folder: Path) -> LatentStore:
    """A store of the right edits of tasks."""
    from safetensors.torch import save_file

    mixture = EditMixture(EditsRecipe(number=len(tasks), per_task=1, right=1.0))
    mixture.task = tasks.__getitem__  # type: ignore[method-assign, assignment]
    chunk = TaskChunks(mixture, len(tasks))[0]
    save_file(encode_chunk(trainee, chunk, "fp32"), folder / "shard-00000.safetensors")
    return LatentStore(folder, len(tasks))


class Modes(LatentStore):
    """Six edits, of which 1, 3 and 4 are right."""

    def __init__(self) -> None:
        self.number = 6

    def _modes(self) -> torch.Tensor:
        return torch.tensor([2, 0, 1, 0, 0, 3])


def test_right_edits_come_first() -> None:
    """For two steps of 3 the three right ones, each once a step; then all six, as if it had been so from the start."""
    store = Modes()
    numbers = edit_numbers(store, FlowRecipe(batch_size=3, right_first=2), 0)
    assert [sorted(numbers(step)) for step in range(2)] == [[1, 3, 4], [1, 3, 4]]
    assert [numbers(step).tolist() for step in (2, 3)] == [Order(6, 3, 0)(step).tolist() for step in (2, 3)]
    assert sorted(np.concatenate([numbers(2), numbers(3)])) == list(range(6))
    every = edit_numbers(store, FlowRecipe(batch_size=3), 0)
    assert every(0).tolist() == Order(6, 3, 0)(0).tolist()


def test_training_asks_the_transformer_what_sampling_asks(trainee: Trainee, tmp_path: Path) -> None:
    """Texts of different lengths, source latents, noise level: the velocity is that of contexts that were encoded.

    In the store, latents have 11 bits; all else is equal to rounding.
    """
    tasks = [sample_task("test", number) for number in (0, 3, 14, 25)]
    editor = trainee.editor()
    contexts = editor.encode([task.edit_task() for task in tasks])
    geometry = editor_geometry(editor)
    assert contexts[0].geometry == geometry
    with trainee.faster(), torch.no_grad():
        store = examples(trainee, tasks, tmp_path)
        found = store.rows(range(len(tasks)))
        generator = torch.Generator().manual_seed(0)
        mixed = torch.randn(found.edited.shape, generator=generator)
        sigmas = torch.tensor([0.2, 0.5, 0.8, 1.0])
        trained = editor.velocity(mixed, sigmas, example_batch(trainee, found, geometry))
    asked = editor.velocity(mixed, sigmas, editor.batch(contexts))
    assert asked.std() > 0.1
    torch.testing.assert_close(trained, asked, rtol=0, atol=2e-3 * asked.abs().max().item())
    reference = torch.stack([context.tensors["reference"] for context in contexts])
    torch.testing.assert_close(found.source, reference, rtol=1e-3, atol=1e-3)
    exact = example_batch(trainee, found, geometry)
    exact.tensors["reference"].copy_(reference)  # type: ignore[union-attr]
    with trainee.faster(), torch.no_grad():
        trained = editor.velocity(mixed, sigmas, exact)
    torch.testing.assert_close(trained, asked, rtol=0, atol=1e-4)


def test_texts_and_sources_both_get_gradients(trainee: Trainee, tmp_path: Path) -> None:
    """All weights that the velocity depends on have one; an editor on the pipeline would have frozen them.

    What a last two-stream block makes of the text goes nowhere, nor do the logits of a text encoder.
    """
    tasks = [sample_task("test", number) for number in range(2)]
    editor = trainee.editor()
    for module in trainee.trained.values():
        module.requires_grad_(True)
    with trainee.faster():
        found = examples(trainee, tasks, tmp_path).rows([0, 1])
        batch = example_batch(trainee, found, editor_geometry(editor))
        editor.velocity(found.edited, torch.tensor([0.5, 0.5]), batch).square().mean().backward()  # type: ignore[no-untyped-call]
    unused = ("lm_head", "transformer_blocks.0.attn.to_add_out", "transformer_blocks.0.txt_mlp")
    for name in ("transformer", *trainee.text_models):
        without = [n for n, p in trainee.trained[name].named_parameters() if p.grad is None]
        assert not [n for n in without if not any(part in n for part in unused)], name


def test_a_store_gives_rows_of_every_file(trainee: Trainee, tmp_path: Path) -> None:
    """Two files of two tasks with two edits each: edit 5 is the second of task 2."""
    from safetensors.torch import save_file

    mixture = EditMixture(EditsRecipe(number=8, per_task=2, right=0.5, shard=2))
    chunks = TaskChunks(mixture, 2)
    with trainee.faster():
        for number in range(2):
            save_file(encode_chunk(trainee, chunks[number], "fp32"), tmp_path / f"shard-{number:05d}.safetensors")
        store = LatentStore(tmp_path, 8)
        found = store.rows([5, 0])
        task = mixture.task(2)
        tokens = trainee.tokenize([task.instruction, mixture.task(0).instruction])
        for name, ids in tokens.items():
            assert found.tokens[name].tolist() == ids.tolist()
        if trainee.sees_source:
            assert found.pixels is not None
            assert np.array_equal(found.pixels[0].numpy(), pixels(task.before))
        again = encode_chunk(trainee, chunks[1], "fp32")
    assert torch.equal(found.edited[0], again["edited"][1].float())
    assert torch.equal(found.source[0], again["source"][0].float())
    assert sum(store.shares().values()) == pytest.approx(1)
