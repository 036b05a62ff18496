"""What an autoencoder's latents are drawn towards."""

from __future__ import annotations

import pytest
import torch
from pretrain_helpers import tiny_trainee

from editr1.training.pretrain.components import Components
from editr1.training.pretrain.recipe import EditorRecipe, EditsRecipe, VaeRecipe
from editr1.training.pretrain.vae import find_components, one_step


def test_components_by_hand() -> None:
    """Squares of 1x1 with channels (a, 2a, 2a): one component, (1, 2, 2) / 3, with the coefficient 3a.

    a = 1, -1 have mean 0: variance of the coefficient 9, so it is scaled by 1/3 to a.
    """
    pixels = torch.tensor([1.0, -1.0])[:, None, None, None] * torch.tensor([1.0, 2.0, 2.0])[None, :, None, None]
    found = Components.of(pixels, 1, 1)
    torch.testing.assert_close(found.basis[:, 0], torch.tensor([1.0, 2.0, 2.0]) / 3)
    assert found.scale == pytest.approx(1 / 3)
    torch.testing.assert_close(found.coefficients(pixels).flatten(), torch.tensor([1.0, -1.0]))


def test_all_components_hold_the_whole_picture_and_the_first_the_most() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(3, 3, 8, 12, generator=generator).cumsum(2) - 3.0
    found = Components.of(pixels, 2, 12)
    coefficients = found.coefficients(pixels)
    assert coefficients.shape == (3, 12, 4, 6)
    torch.testing.assert_close(found.pictures(coefficients), pixels, rtol=0, atol=1e-4)
    assert coefficients.square().mean().item() == pytest.approx(1, rel=1e-3)
    variances = coefficients.transpose(0, 1).flatten(1).var(1)
    assert (variances.diff() <= 1e-6).all()
    few = Components.of(pixels, 2, 3)
    left = (few.pictures(few.coefficients(pixels)) - pixels).square().mean()
    assert 0 < left < pixels.var() / 3


@pytest.mark.parametrize("name", ["kontext", "qwen"])
def test_latents_are_drawn_towards_them(name: str) -> None:
    """The gradient of a step is that of the loss without, plus the weight times that of the mean squared distance."""
    trainee = tiny_trainee(name)
    recipe = EditorRecipe(name="x", editor=name, precision="fp32", edits=EditsRecipe(number=2048))
    components = find_components(trainee, recipe)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 96, 96, generator=generator) * 2 - 1
    latents = trainee.encode(pixels)[0]
    assert components.coefficients(pixels).shape == latents.shape
    weight = trainee.vae.encoder.conv_in.weight

    def gradient(settings: VaeRecipe, towards: Components | None) -> torch.Tensor:
        trainee.vae.requires_grad_(True)
        weight.grad = None
        with trainee.faster():
            figures = one_step(trainee, pixels, recipe.model_copy(update={"vae": settings}), 0, towards)
        assert ("off_components" in figures) == (towards is not None)
        trainee.vae.requires_grad_(False)
        assert weight.grad is not None
        return weight.grad.clone()

    without = gradient(VaeRecipe(components=0.0), None)
    drawn = gradient(VaeRecipe(components=0.7), components)
    trainee.vae.requires_grad_(True)
    with trainee.faster():
        off = (trainee.encode(pixels)[0] - components.coefficients(pixels)).square().mean()
    (own,) = torch.autograd.grad(off, weight)
    trainee.vae.requires_grad_(False)
    torch.testing.assert_close(drawn, without + 0.7 * own, rtol=1e-3, atol=1e-5)
