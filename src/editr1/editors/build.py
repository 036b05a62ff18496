"""Editors by path or hub id."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from editr1.config import load as load_recipe
from editr1.devices import find_device
from editr1.editors.base import EditorOptions
from editr1.editors.names import LORA_FILE, SHIPPED_EDITORS, SHIPPED_LORAS, resolve_editor, resolve_lora
from editr1.editors.pipeline import PipelineEditor
from editr1.errors import ConfigError, DataError, MissingExtraError, ModelError
from editr1.judges.files import folder_digest
from editr1.judges.names import check_place
from editr1.loading import hushed

OPTIONS_FILE = "editr1.json"
"""Beside a model's `model_index.json`: the `EditorOptions` that it is to be used with."""

EDITORS: dict[str, str] = {
    "FluxKontextPipeline": "editr1.editors.kontext:KontextEditor",
    "QwenImageEditPipeline": "editr1.editors.qwen_image_edit:QwenImageEditEditor",
    "QwenImageEditPlusPipeline": "editr1.editors.qwen_image_edit:QwenImageEditPlusEditor",
}
"""The editor for each class of pipeline. A further editor is a file with a `PipelineEditor`, and a line here."""


def build_editor(
    model: str | Path,
    *,
    options: EditorOptions | None = None,
    lora: str | Path | None = None,
    dtype: str | None = None,
    device: str | None = None,
    revision: str | None = None,
) -> PipelineEditor:
    """Load a pipeline of diffusers, from safetensors only, and put the editor for its class on it.

    Args:
        model: a folder that `save_pretrained` wrote, a hub id such as "black-forest-labs/FLUX.1-Kontext-dev", or the
            name of an editor that ships with editr1: "embedded", "sticker-kontext-small", "sticker-qwen-small".
        options: how to use it; where they are silent, the folder's `editr1.json` speaks, then the pipeline's ways.
        lora: folder or hub id of weights that `load_lora_weights` takes, or the name of some that ship with editr1,
            such as "sticker-kontext-small-rl-gcpo-small".
        dtype: e.g. "bfloat16"; default is bfloat16 on a GPU and float32 on the CPU.
        device: e.g. "cuda:1"; default is the first GPU, else the CPU.
        revision: of a hub id.

    Raises:
        ModelError: if there is no such model, or no editor for its pipeline.
        ConfigError: for an unknown device or dtype, or an `editr1.json` that cannot be read.
        MissingExtraError: if diffusers is not installed.
    """
    where = find_device(device)
    precision = _dtype(dtype, where)
    model = resolve_editor(model)
    folder = Path(model).expanduser()
    check_place(model, ("model_index.json",), "editor", SHIPPED_EDITORS)
    lora = lora if lora is None else resolve_lora(lora)
    if lora is not None:
        files = [p.name for p in Path(lora).glob("*.safetensors")]
        check_place(lora, files or [LORA_FILE], "LoRA", SHIPPED_LORAS)
    try:
        import diffusers
    except ImportError as exc:
        raise MissingExtraError("editing pictures", "editors") from exc
    source = str(folder if folder.is_dir() else model)
    try:
        with hushed(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch_dtype")  # the name that older ones know too
            pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(
                source, torch_dtype=precision, revision=revision, use_safetensors=True
            )
    except Exception as exc:  # diffusers raises whatever its parts raise
        raise ModelError(f"the editor {model} cannot be loaded: {' '.join(str(exc).split())[:240]}") from exc
    if lora is not None:
        _put_on(pipeline, lora, model)
    pipeline.set_progress_bar_config(disable=True)
    chosen = merge_options(read_options(folder), options)
    fingerprint = f"{_fingerprint(folder, str(model), revision)}:{precision}:{_lora_fingerprint(lora)}"
    return wrap(pipeline.to(where), chosen, name=folder.name, fingerprint=fingerprint)


def wrap(
    pipeline: Any, options: EditorOptions | None = None, *, name: str = "", fingerprint: str = "", **arguments: Any
) -> PipelineEditor:
    """The editor for a pipeline that is loaded already.

    Args:
        pipeline: of a class that `EDITORS` names.
        options: how to use it.
        name: for messages and records.
        fingerprint: of its weights, if known.
        arguments: further ones of `PipelineEditor`, such as `autocast`.

    Raises:
        ModelError: if there is no editor for its class.
    """
    kind = type(pipeline).__name__
    if kind not in EDITORS:
        raise ModelError(f"there is no editor for a {kind}: use a model with one of {', '.join(EDITORS)}")
    module, _, attribute = EDITORS[kind].partition(":")
    make: Callable[..., PipelineEditor] = getattr(import_module(module), attribute)
    return make(pipeline, options, name=name, fingerprint=fingerprint, **arguments)


def read_options(folder: str | Path) -> EditorOptions:
    """What a model's folder says about its use; nothing if there is no such file.

    Raises:
        ConfigError: if the file cannot be read.
    """
    path = Path(folder) / OPTIONS_FILE
    if not path.is_file():
        return EditorOptions()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return load_recipe(EditorOptions, values=data)
    except (OSError, ValueError, AttributeError, DataError) as exc:
        raise ConfigError(f"{path} holds no options of an editor: {exc}") from exc


def merge_options(base: EditorOptions, over: EditorOptions | None) -> EditorOptions:
    """The first, with what the second says laid over it."""
    return base if over is None else base.model_copy(update=over.model_dump(exclude_none=True))


def _put_on(pipeline: Any, lora: str, model: str) -> None:
    """Load LoRA weights into a pipeline, all of them: diffusers leaves out, with a word in its log, what has no place.

    Raises:
        ModelError: if they cannot be read, or belong to another model.
    """
    try:
        with hushed():
            pipeline.load_lora_weights(lora, use_safetensors=True)
            weights = pipeline.lora_state_dict(lora, use_safetensors=True)
    except Exception as exc:  # as above
        said = " ".join(str(exc).split())[:240]
        raise ModelError(f"the LoRA {lora} cannot be put on the editor {model} ({said}): is it for another?") from exc
    keys = weights[0] if isinstance(weights, tuple) else weights
    prefix = "transformer."
    wanted = {key.removeprefix(prefix).partition(".lora_A")[0] for key in keys if ".lora_A" in key}
    there = {name for name, part in pipeline.transformer.named_modules() if hasattr(part, "lora_A")}
    if missing := sorted(wanted - there) if wanted else ["of any kind"]:
        raise ModelError(
            f"the LoRA {lora} belongs to another model than {model}, which lacks {len(missing)} of the "
            f"{len(wanted)} layers that it changes, such as {missing[0]}: name the editor that it was made for"
        )


def _fingerprint(folder: Path, model: str, revision: str | None) -> str:
    """Of all that a context depends on. A hub id stands for itself: name a revision to be sure."""
    if not folder.is_dir():
        return f"hub:{model}@{revision}"
    parts = sorted(part for part in folder.iterdir() if part.is_dir())
    return "folder:" + "-".join(folder_digest(part) for part in parts)


def _lora_fingerprint(lora: str | Path | None) -> str:
    if lora is None:
        return ""
    return folder_digest(lora) if Path(lora).is_dir() else str(lora)


def _dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"unknown dtype {dtype!r}: use bfloat16, float16 or float32")
    return found
