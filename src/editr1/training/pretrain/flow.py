"""Fourth stage: transformer and text encoders together, by flow matching on latents.

The transformer is called by `PipelineEditor.velocity` alone, which is also what samples, rolls out and replays: what is
learnt here is what is asked later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from editr1.editors import PipelineEditor
from editr1.editors.context import Batch, Geometry
from editr1.errors import ModelError
from editr1.rundir import RunDir
from editr1.training.pretrain.latents import Examples, LatentStore, Order
from editr1.training.pretrain.models import Trainee
from editr1.training.pretrain.recipe import EditorRecipe, FlowRecipe
from editr1.training.pretrain.state import TrainState, learning_rate, make_optimizers
from editr1.training.pretrain.vae import Report, autocast

_PATIENCE = 20
"""Steps in a row whose gradient is not finite before the run stops."""

Evaluate = Callable[[int], dict[str, float]]
"""Called with the step, while the modules have the averaged weights; its figures are logged."""


def noise_levels(number: int, settings: FlowRecipe, shift: float, generator: torch.Generator) -> Tensor:
    """(number,) sigmas: logistic normal, then shifted as `FlowMatchEulerDiscreteScheduler` shifts.

    sigma = s u / (1 + (s - 1) u), u = 1 / (1 + exp(-(mean + std z))), z ~ N(0, 1).
    """
    normal = settings.sigma_mean + settings.sigma_std * torch.randn(number, generator=generator)
    even = torch.sigmoid(normal)
    return shift * even / (1 + (shift - 1) * even)


def token_weights(changed: Tensor, focus: float) -> Tensor:
    """(B, L): `focus` for tokens that a right edit changes and 1 for others, brought to a mean of 1 for each example.

    Args:
        changed: (B, L) bool.
        focus: at least 1.
    """
    weights = 1 + (focus - 1) * changed.float()
    return weights / weights.mean(dim=1, keepdim=True)


def flow_loss(velocity: Tensor, edited: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    """Mean squared distance of a velocity from e - x0, weighted by token.

    Args:
        velocity: (B, L, C).
        edited: x0, the edited pictures' latents, likewise.
        noise: e, likewise.
        weights: (B, L), mean 1.
    """
    return (weights * (velocity - (noise - edited)).square().mean(dim=-1)).mean()


def example_batch(trainee: Trainee, examples: Examples, geometry: Geometry) -> Batch:
    """Examples as `PipelineEditor.velocity` takes contexts, with gradients into the text encoders."""
    texts = trainee.embed(examples.tokens, examples.pixels)
    return Batch(geometry, len(examples.edited), texts | {"reference": examples.source})


def edit_numbers(store: LatentStore, settings: FlowRecipe, seed: int) -> Callable[[int], npt.NDArray[np.int64]]:
    """Which edits a step takes: right ones alone in the first `settings.right_first` steps, all of them afterwards."""
    everything, right = Order(len(store), settings.batch_size, seed), store.right()
    if not settings.right_first:
        return everything
    if not len(right):
        raise ModelError("flow.right_first asks for right edits, and none was drawn: raise edits.number or edits.right")
    first = Order(len(right), settings.batch_size, seed)
    return lambda step: right[first(step)] if step < settings.right_first else everything(step)


def train_flow(
    trainee: Trainee,
    store: LatentStore,
    recipe: EditorRecipe,
    run: RunDir,
    report: Report | None = None,
    evaluate: Evaluate | None = None,
) -> None:
    """Train transformer and text encoders; the averaged weights are in them afterwards.

    Args:
        trainee: to train.
        store: edits to learn from.
        recipe: how.
        run: directory of the run; the steps of this stage follow those of the autoencoder.
        report: of progress.
        evaluate: called every `recipe.held_out.every` steps.

    Raises:
        ModelError: if the gradient is not finite over and over.
    """
    settings, before = recipe.flow, recipe.vae.steps
    editor = trainee.editor(torch.bfloat16 if recipe.precision == "bf16" else None)
    modules = trainee.trained
    for name, module in modules.items():
        module.requires_grad_(name == "transformer" or settings.text_rate > 0)
    if recipe.compile:
        trainee.compile()
    rates = dict.fromkeys(trainee.text_models, settings.text_rate)
    optimizers = make_optimizers(modules, settings.learning_rate, settings.weight_decay, settings.optimizer, rates)
    state = TrainState(modules, optimizers, settings.ema)
    done = state.resume(run, before) - before
    edits_of = edit_numbers(store, settings, recipe.seed)
    geometry = editor_geometry(editor)
    started, skipped = time.monotonic(), 0
    with run.log(after=before + done) as log:
        for step in range(done, settings.steps):
            rate = learning_rate(step, settings)
            examples = store.rows(edits_of(step), trainee.device)
            loss = _loss(trainee, editor, examples, geometry, recipe, step)
            loss.backward()
            norm = state.step(step, rate, settings.max_grad_norm)
            skipped = 0 if math.isfinite(norm) else skipped + 1
            if skipped >= _PATIENCE:
                raise ModelError(
                    f"the gradient was not finite in {skipped} steps on end: lower flow.learning_rate, or set "
                    "precision to fp32, and start again in another run directory"
                )
            last = step + 1 == settings.steps
            row: dict[str, float] = {}
            if (step + 1) % recipe.log_every == 0 or last:
                pace = (step + 1 - done) * settings.batch_size / (time.monotonic() - started)
                row = {"loss": loss.item(), "grad_norm": norm, "learning_rate": rate}
                row |= {"examples_per_second": round(pace, 1)}
            if evaluate is not None and recipe.held_out.every and (step + 1) % recipe.held_out.every == 0:
                with state.averaged():
                    row |= evaluate(before + step + 1)
            if row:
                log.write(before + step + 1, stage="flow", **row)
                if report is not None:
                    report("flow", step + 1, settings.steps, row)
            if (step + 1) % recipe.save_every == 0 or last:
                state.save(run, before + step + 1, recipe.keep)
    for name, value in state.average.items():
        state.parameters[name].data.copy_(value)
    for module in modules.values():
        module.requires_grad_(False).eval()


def editor_geometry(editor: PipelineEditor) -> Geometry:
    """Of the pictures of the domain, which are all of one size."""
    from PIL import Image

    from editr1.editors.sticker_pipeline import SIDE

    return editor.geometry(Image.new("RGB", (SIDE, SIDE)))


def _loss(
    trainee: Trainee, editor: PipelineEditor, examples: Examples, geometry: Geometry, recipe: EditorRecipe, step: int
) -> Tensor:
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step + 1)
    shift = float(trainee.pipeline.scheduler.config.shift)
    sigmas = noise_levels(len(examples.edited), recipe.flow, shift, generator).to(trainee.device)
    noise = torch.randn(examples.edited.shape, generator=generator).to(trainee.device)
    mixed = (1 - sigmas[:, None, None]) * examples.edited + sigmas[:, None, None] * noise
    with autocast(trainee.device, recipe.precision):
        batch = example_batch(trainee, examples, geometry)
    velocity = editor.velocity(mixed, sigmas, batch)
    return flow_loss(velocity, examples.edited, noise, token_weights(examples.changed, recipe.flow.focus))
