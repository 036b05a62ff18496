"""First stage of the pretraining of an embedded editor: its autoencoder."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editr1.rundir import RunDir
from editr1.stickers.draw import pixels as draw_pixels
from editr1.training.pretrain.components import Components
from editr1.training.pretrain.data import EditMixture, PictureBatches, Pixels, draw
from editr1.training.pretrain.evaluate import classify, held_out_tasks, summarise
from editr1.training.pretrain.models import Trainee
from editr1.training.pretrain.recipe import EditorRecipe
from editr1.training.pretrain.state import TrainState, learning_rate, make_optimizers

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with the stage, steps done and in all, and its figures."""

FOLDER = "vae"
"""Of the finished autoencoder, in the run directory."""

_MEASURED_LATENTS = 2048
"""Pictures whose latents say what mean and deviation the transformer sees."""

_COMPONENTS_FROM = 1024
"""Pictures whose squares' principal components the latents are drawn towards."""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 where the recipe says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def to_pixels(pictures: Pixels | Tensor, device: torch.device | str) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1], as the pipelines' image processors make them."""
    levels = torch.as_tensor(pictures).to(device).permute(0, 3, 1, 2).float()
    return 2.0 * (levels / 255.0) - 1.0


def reconstruction_loss(made: Tensor, pixels: Tensor, edge: float) -> Tensor:
    """Mean absolute error of pixels, and of the differences between neighbours down and across, times `edge`."""
    off = made - pixels
    loss = off.abs().mean()
    if edge:
        loss = loss + edge * 0.5 * (off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean())
    return loss


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Divergence of N(mean, exp(logvar)) from N(0, 1), summed over a picture's latents, mean over pictures."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()


def train_vae(trainee: Trainee, recipe: EditorRecipe, run: RunDir, report: Report | None = None) -> None:
    """Train the autoencoder into `run/vae`, or load it from there; an interrupted training is continued.

    Args:
        trainee: whose VAE gets the weights, and the scale of its latents.
        recipe: what is trained.
        run: directory of the run; the steps of this stage are its first.
        report: of progress.
    """
    if (run.path / FOLDER / "config.json").is_file():
        load_vae(trainee, run.path / FOLDER)
        return
    settings, vae = recipe.vae, trainee.vae
    vae.requires_grad_(True).train()
    if recipe.compile:
        vae.encoder.compile()
        vae.decoder.compile()
    state = TrainState({FOLDER: vae}, make_optimizers({FOLDER: vae}, settings.learning_rate, 0.0, settings.optimizer))
    done = state.resume(run, 0)
    components = find_components(trainee, recipe) if settings.components else None
    data = PictureBatches(EditMixture(recipe.edits), settings.batch_size, settings.steps)
    started = time.monotonic()
    with run.log(after=done) as log:
        for step, pictures in enumerate(draw(data, done, recipe.workers), start=done):
            rate = learning_rate(step, settings)
            figures = one_step(trainee, to_pixels(pictures, trainee.device), recipe, step, components)
            figures["grad_norm"] = state.step(step, rate, 1.0)
            if (step + 1) % recipe.log_every == 0 or step + 1 == settings.steps:
                pace = (step + 1 - done) * settings.batch_size / (time.monotonic() - started)
                row = {name: float(value) for name, value in figures.items()}
                row |= {"learning_rate": rate, "pictures_per_second": round(pace, 1)}
                log.write(step + 1, stage="vae", **row)
                if report is not None:
                    report("vae", step + 1, settings.steps, row)
            if (step + 1) % recipe.save_every == 0 and step + 1 < settings.steps:
                state.save(run, step + 1, recipe.keep)
        vae.requires_grad_(False).eval()
        measure_scale(trainee, recipe)
        log.write(settings.steps, stage="vae", **measure_vae(trainee, recipe))
    keep_vae(vae, run.path / FOLDER)


def find_components(trainee: Trainee, recipe: EditorRecipe) -> Components:
    """Of the squares that a latent stands for, in pictures of the recipe's own edits."""
    data = PictureBatches(EditMixture(recipe.edits), _COMPONENTS_FROM, 1)
    pixels = to_pixels(data[0], "cpu")
    latents = trainee.encode(pixels[:1].to(trainee.device))[0]
    return Components.of(pixels, pixels.shape[-1] // latents.shape[-1], latents.shape[1])


def one_step(
    trainee: Trainee, pixels: Tensor, recipe: EditorRecipe, step: int, components: Components | None = None
) -> dict[str, Any]:
    """Gradients of the loss of a batch, (B, 3, H, W) in [-1, 1], and its figures."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    with autocast(trainee.device, recipe.precision):
        mean, logvar = (part.float() for part in trainee.encode(pixels))
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        made = trainee.decode(mean + (0.5 * logvar).exp() * noise).float()
    kl = gaussian_kl(mean, logvar)
    loss = reconstruction_loss(made, pixels, recipe.vae.edge) + recipe.vae.kl * kl
    figures = {"kl": kl.detach()}
    if components is not None:
        off = (mean - components.coefficients(pixels)).square().mean()
        loss = loss + recipe.vae.components * off
        figures["off_components"] = off.detach()
    loss.backward()
    return {"loss": loss.detach()} | figures | accuracy(made.detach(), pixels)


def accuracy(made: Tensor, pixels: Tensor) -> dict[str, float]:
    """How close pictures in [-1, 1] are to others: mean absolute error in levels of 255, and mean PSNR in dB."""
    off = (made.clamp(-1, 1) - pixels) / 2
    squared = off.square().flatten(1).mean(1).clamp_min(1e-10)
    return {"l1": 255 * off.abs().mean().item(), "psnr": (-10 * squared.log10()).mean().item()}


@torch.no_grad()
def measure_scale(trainee: Trainee, recipe: EditorRecipe) -> None:
    """Let the VAE's config say what mean and deviation its latents have."""
    number = min(_MEASURED_LATENTS, recipe.edits.number)
    size = min(64, number)
    data = PictureBatches(EditMixture(recipe.edits), size, number // size)
    found = []
    for pictures in draw(data, 0, recipe.workers):
        with autocast(trainee.device, recipe.precision):
            found.append(trainee.encode(to_pixels(pictures, trainee.device))[0].float().cpu())
    trainee.measure_latents(torch.cat(found))


@torch.no_grad()
def measure_vae(trainee: Trainee, recipe: EditorRecipe) -> dict[str, float]:
    """Accuracy on held-out pictures, in float32.

    Returns:
        held_out/vae/l1, held_out/vae/psnr: as `accuracy`; held_out/vae/right and oracle: share of copies of right
        edits that are called right, and their mean utility. An editor on this VAE can hardly do better.
    """
    size = min(32, recipe.vae.measured)
    data = PictureBatches(EditMixture(recipe.edits, recipe.held_out.split), size, recipe.vae.measured // size)
    rows = []
    for pictures in draw(data, 0, 0):
        pixels = to_pixels(pictures, trainee.device)
        rows.append(accuracy(trainee.decode(trainee.encode(pixels)[0]), pixels))
    figures = {name: math.fsum(row[name] for row in rows) / len(rows) for name in ("l1", "psnr")}
    outcomes = []
    for task in held_out_tasks(recipe.held_out.split, recipe.held_out.per_kind):
        right = to_pixels(draw_pixels(task.after)[None], trainee.device)
        copy = trainee.decode(trainee.encode(right)[0]).clamp(-1, 1)[0].permute(1, 2, 0)
        levels = ((copy + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
        outcomes.append(classify(task, Image.fromarray(levels)))
    found = summarise(outcomes)
    figures |= {name: found[name] for name in ("right", "oracle")}
    return {f"held_out/vae/{name}": value for name, value in figures.items()}


def load_vae(trainee: Trainee, folder: Path) -> None:
    """Weights and scale of a finished autoencoder."""
    loaded: Any = type(trainee.vae).from_pretrained(folder, use_safetensors=True)
    trainee.vae.load_state_dict(loaded.state_dict())
    trainee.vae.register_to_config(**{name: loaded.config[name] for name in _SCALES if name in loaded.config})
    trainee.vae.requires_grad_(False).eval()


_SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


def keep_vae(vae: Any, folder: Path) -> None:
    """Write an autoencoder, for `load_vae`; the folder is there when it is whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    vae.save_pretrained(partial, safe_serialization=True)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
