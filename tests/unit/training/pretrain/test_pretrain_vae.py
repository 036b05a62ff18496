"""The autoencoders of the embedded editors."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from pretrain_helpers import tiny_trainee

from editr1.training.pretrain.data import EditMixture, PictureBatches
from editr1.training.pretrain.recipe import EditorRecipe, EditsRecipe
from editr1.training.pretrain.state import TrainState, make_optimizers
from editr1.training.pretrain.vae import accuracy, gaussian_kl, one_step, reconstruction_loss, to_pixels


def test_divergence_by_hand() -> None:
    """Two latents of mean 1 and variance e: each (1 + e - 1 - 1) / 2 = (e - 1) / 2; a unit Gaussian: 0."""
    ones = torch.ones(3, 2, 1, 1)
    assert gaussian_kl(ones, ones).item() == pytest.approx(math.e - 1, rel=1e-6)
    assert gaussian_kl(torch.zeros(3, 2, 1, 1), torch.zeros(3, 2, 1, 1)).item() == 0


def test_reconstruction_by_hand() -> None:
    """Off by 0.4 in one pixel of 2x2, one channel: 0.1 of pixels; across and down one of two differences is off by 0.4.

    0.1 + w / 2 (0.2 + 0.2), at w = 0.5: 0.2.
    """
    pixels = torch.zeros(1, 1, 2, 2)
    made = pixels.clone()
    made[0, 0, 0, 0] = 0.4
    assert reconstruction_loss(made, pixels, 0.5).item() == pytest.approx(0.2)
    assert reconstruction_loss(made, pixels, 0.0).item() == pytest.approx(0.1)


def test_accuracy_by_hand() -> None:
    """Off by 0.2 of 2 everywhere is 25.5 levels, and a mean square of 0.01: 20 dB. What is over 1 is cut."""
    pixels = torch.zeros(2, 3, 4, 4)
    found = accuracy(pixels + 0.2, pixels)
    assert found == {"l1": pytest.approx(25.5, rel=1e-5), "psnr": pytest.approx(20, rel=1e-5)}
    assert accuracy(pixels + 5, pixels + 1)["l1"] == 0


@pytest.mark.parametrize("name", ["kontext", "qwen"])
def test_pictures_are_coded_as_the_editor_codes_them(name: str) -> None:
    trainee = tiny_trainee(name)
    levels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    pixels = to_pixels(levels, "cpu")
    editor = trainee.editor()
    with torch.no_grad():
        with trainee.faster():
            mean, logvar = trainee.encode(pixels)
            trainee.measure_latents(mean)
            found, copies = trainee.normalise(mean), trainee.decode(mean).clamp(-1, 1)
        expected = torch.cat([editor._to_latents(one[None]) for one in pixels])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(copies, editor._to_pixels(expected).clamp(-1, 1), rtol=0, atol=1e-4)
        own = trainee.vae.encode(pixels if name == "kontext" else pixels.unsqueeze(2)).latent_dist
        torch.testing.assert_close(logvar, own.logvar.reshape(logvar.shape), rtol=0, atol=1e-4)
    assert found.mean().item() == pytest.approx(0, abs=1e-3)
    assert found.std().item() == pytest.approx(1, abs=0.02)


def test_pixels_are_those_of_the_image_processor() -> None:
    from PIL import Image

    levels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    processor = tiny_trainee("kontext").pipeline.image_processor
    expected = processor.preprocess(Image.fromarray(levels), 96, 96)
    torch.testing.assert_close(to_pixels(levels[None], "cpu"), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kontext", "qwen"])
def test_a_vae_learns_two_pictures(name: str) -> None:
    """From grey, which is 60 levels off, to two thirds of that."""
    trainee = copy.deepcopy(tiny_trainee(name))
    trainee.vae.requires_grad_(True)
    state = TrainState({"vae": trainee.vae}, make_optimizers({"vae": trainee.vae}, 5e-3, 0.0))
    recipe = EditorRecipe(name="tiny", editor=name, precision="fp32")
    pixels = to_pixels(PictureBatches(EditMixture(EditsRecipe()), 2, 1)[0], "cpu")
    errors = []
    with trainee.faster():
        for step in range(60):
            errors.append(one_step(trainee, pixels, recipe, step)["l1"])
            state.step(step, 5e-3, 1.0)
    assert errors[-1] < 0.67 * errors[0], errors
