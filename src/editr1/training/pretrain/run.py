"""Pretraining of an embedded editor: autoencoder, latents, text encoders, flow matching, and the model with its card.

Every stage leaves its result in the run directory and is skipped once it is there; within a stage, a run that was
killed goes on from its last checkpoint with what it would have seen.

    runs/<name>/
      vae/        the autoencoder
      latents/    encoded edits; may be deleted once the model is there
      text.safetensors    the text encoders before flow matching
      model/      the pipeline in bfloat16, editr1.json, README.md, training.json
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from editr1.editors.sticker_pipeline import count_parameters, save_pipeline
from editr1.errors import ConfigError
from editr1.rundir import RunDir
from editr1.stickers.tasks import sample_task
from editr1.training.pretrain.card import write_editor_card
from editr1.training.pretrain.evaluate import held_out_tasks, measure_editor
from editr1.training.pretrain.explained import HeldOutEdits
from editr1.training.pretrain.flow import train_flow
from editr1.training.pretrain.latents import encode_edits
from editr1.training.pretrain.models import TRAINEES, Trainee, make_trainee
from editr1.training.pretrain.recipe import EditorRecipe
from editr1.training.pretrain.text import train_text
from editr1.training.pretrain.vae import FOLDER as VAE_FOLDER
from editr1.training.pretrain.vae import Report, keep_vae, measure_vae, train_vae

MODEL = "model"


def pretrain_editor(recipe: EditorRecipe, folder: Path, report: Report | None = None) -> Path:
    """Pretrain into a run directory; an interrupted run there is continued.

    Args:
        recipe: what to train, and how.
        folder: of the run.
        report: called with the stage ("vae", "latents", "text", "flow"), steps done and in all, and figures.

    Returns:
        the folder of the finished model, loadable with `DiffusionPipeline.from_pretrained` and `build_editor`.

    Raises:
        ConfigError: if what is there was made by other settings, or `start` is of another architecture or size.
        ModelError: if training diverges, or there is no editor `start`.
    """
    run = RunDir.create(folder, recipe.model_dump(mode="json"), seeds={"weights": recipe.seed}, resume=True)
    torch.manual_seed(recipe.seed)
    if recipe.start is None:
        trainee = make_trainee(recipe.editor, recipe.size, texts(recipe), recipe.seed, _device(recipe.device))
    else:
        trainee = start_from(recipe, run)
    tasks = held_out_tasks(recipe.held_out.split, recipe.held_out.per_kind)
    edits: HeldOutEdits | None = None  # once the autoencoder is there

    def evaluate(step: int) -> dict[str, float]:
        assert edits is not None
        precision = torch.bfloat16 if recipe.precision == "bf16" else None
        keep = run.samples / f"step-{step:06d}"
        with gradients_as_before(trainee):
            editor = trainee.editor(precision)
            found = measure_editor(editor, tasks, recipe.held_out.samples, recipe.held_out.steps, keep)
            found |= edits.measure(editor)
        return {f"held_out/{name}": value for name, value in found.items()}

    with trainee.faster():
        train_vae(trainee, recipe, run, report)
        store = encode_edits(trainee, recipe, run, report)
        if recipe.start is None:
            train_text(trainee, store, recipe, run, report)
        edits = HeldOutEdits(trainee, recipe)
        train_flow(trainee, store, recipe, run, report, evaluate)
    return finish(trainee, recipe, run, store.shares())


def start_from(recipe: EditorRecipe, run: RunDir) -> Trainee:
    """The editor to go on from, its autoencoder in the run directory.

    Raises:
        ConfigError: if it is of another architecture or size, or the run directory has another autoencoder.
        ModelError: if there is none.
    """
    from editr1.editors import build_editor

    device = _device(recipe.device)
    pipeline: Any = build_editor(str(recipe.start), device=str(device), dtype="float32").pipeline
    fresh = make_trainee(recipe.editor, recipe.size, texts(recipe)[:50], recipe.seed, "cpu").pipeline
    if type(pipeline) is not type(fresh) or _shape(pipeline.transformer) != _shape(fresh.transformer):
        raise ConfigError(
            f"start names {recipe.start}, a {type(pipeline).__name__} of another size or architecture than "
            f"{recipe.editor!r}, {recipe.size!r}: set editor and size to its own, or name another"
        )
    folder = run.path / VAE_FOLDER
    if not (folder / "config.json").is_file():
        keep_vae(pipeline.vae, folder)
    kept = load_file(folder / "diffusion_pytorch_model.safetensors", device=str(device))
    if any(not torch.equal(value, kept[name]) for name, value in pipeline.vae.state_dict().items()):
        raise ConfigError(f"{folder} is not the autoencoder of {recipe.start}: name another run directory")
    return TRAINEES[recipe.editor](pipeline, device)


def _shape(transformer: Any) -> dict[str, Any]:
    """Its dimensions, without where it was loaded from."""
    said = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    return dict(json.loads(json.dumps(said)))


def texts(recipe: EditorRecipe) -> list[str]:
    """Instructions that the tokenizers are learnt from."""
    return [sample_task("tokenizer", index).instruction for index in range(recipe.texts)]


@contextmanager
def gradients_as_before(trainee: Trainee) -> Iterator[None]:
    """An editor freezes the weights of the pipeline that it is put on; afterwards those are trained that were."""
    trained = [p for module in trainee.trained.values() for p in module.parameters() if p.requires_grad]
    yield
    for parameter in trained:
        parameter.requires_grad_(True)


def finish(trainee: Trainee, recipe: EditorRecipe, run: RunDir, shares: dict[str, float]) -> Path:
    """Write the model in bfloat16, measure it as it was written, and write its card."""
    final = run.path / MODEL
    partial = run.path / f".{MODEL}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    save_pipeline(trainee.pipeline, partial, trainee.options, dtype="bfloat16")
    figures = _measure(partial, recipe, run)
    write_editor_card(
        partial,
        recipe.model_dump(mode="json"),
        parameters=count_parameters(trainee.pipeline),
        rows=list(run.metrics()),
        shares=shares,
        held_out=figures,
    )
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final


def _measure(folder: Path, recipe: EditorRecipe, run: RunDir) -> dict[str, float]:
    """Figures of a finished model on held-out tasks, and of its autoencoder, in float32 from the weights as written."""
    from editr1.editors import build_editor

    editor = build_editor(folder, device=str(_device(recipe.device)), dtype="float32")
    tasks = held_out_tasks(recipe.held_out.split, recipe.held_out.final)
    figures = measure_editor(editor, tasks, 1, recipe.held_out.steps, run.samples / "final")
    loaded: Any = TRAINEES[recipe.editor](editor.pipeline, _device(recipe.device))
    with loaded.faster():
        copies = measure_vae(loaded, recipe)
    return figures | {name.removeprefix("held_out/"): value for name, value in copies.items()}


def _device(name: str) -> torch.device:
    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
