"""The trained editor as others load it: a LoRA for `load_lora_weights`, or a whole pipeline; with a card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editr1.editors.build import OPTIONS_FILE
from editr1.editors.names import LORA_FILE, resolve_editor
from editr1.errors import ModelError
from editr1.files import write_atomic, write_json
from editr1.judges.names import SHIPPED
from editr1.rewards.config import RewardConfig
from editr1.training.editor.policy import ADAPTER
from editr1.training.editor.setup import Work
from editr1.training.editor.state import Progress, whole

SETTINGS_FILE = "training.json"
"""The recipe, beside what came of it."""


def export(work: Work, progress: Progress) -> Path:
    """Write the last weights, and those of the best evaluation into `best/`; the moving averages, if there are any.

    The trained weights are overwritten on the way: this comes last.

    Returns:
        the folder of the last weights.
    """
    name = "pipeline" if work.policy.lora is None else "lora"
    folder = work.run.path / name
    _write(work, folder, progress.iteration)
    if progress.best is not None and work.evaluation is not None:
        if progress.best[0] != progress.iteration:
            work.checkpoints.load_for_use(progress.best[0])
        _write(work, work.run.path / "best", progress.best[0])
    return folder


def _write(work: Work, folder: Path, step: int) -> None:
    """Into a folder beside, then into its place: half a model is never seen there."""
    partial = folder.with_name(f".{folder.name}.partial")
    with work.policy.using(work.policy.best_for_use):
        tensors = {name: whole(tensor) for name, tensor in work.policy.parameters.items()}
    if work.main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if work.policy.lora is None:
            _write_pipeline(work, partial, tensors)
        else:
            write_lora(work.editor.pipeline, partial, tensors)
        write_atomic(partial / "README.md", card(work, step))
        write_json(partial / SETTINGS_FILE, work.recipe.model_dump(mode="json"))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    work.accelerator.wait_for_everyone()


def write_lora(pipeline: Any, folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write a LoRA as diffusers does, with its scale worked into the weights.

    diffusers carries alpha in the file's metadata, and other programs take it to be the rank. Here it is the rank:
    whoever loads the file gets the same picture.

    Args:
        pipeline: whose transformer has the adapter.
        folder: that gets `pytorch_lora_weights.safetensors`.
        tensors: the adapter's weights, by parameter name.
    """
    config = pipeline.transformer.peft_config[ADAPTER]
    scale = config.lora_alpha / config.r
    layers = {
        name.replace(f".{ADAPTER}.", "."): (tensor * scale if ".lora_B." in name else tensor).contiguous()
        for name, tensor in tensors.items()
    }
    about = config.to_dict() | {"lora_alpha": config.r}
    type(pipeline).save_lora_weights(folder, transformer_lora_layers=layers, transformer_lora_adapter_metadata=about)
    if not (folder / LORA_FILE).is_file():
        raise ModelError(f"diffusers wrote no {LORA_FILE} into {folder}: it may be too new or too old for editr1")


def _write_pipeline(work: Work, folder: Path, tensors: dict[str, Tensor]) -> None:
    """The whole pipeline, its transformer in the precision that it came in."""
    pipeline = work.editor.pipeline
    trained = pipeline.transformer
    with torch.device("meta"):
        plain = type(trained).from_config(trained.config)
    plain.load_state_dict({name: tensor.to(work.kept_dtype) for name, tensor in tensors.items()}, assign=True)
    try:
        pipeline.register_modules(transformer=plain)
        pipeline.save_pretrained(folder, safe_serialization=True)
    finally:
        pipeline.register_modules(transformer=trained)
    write_json(folder / OPTIONS_FILE, work.editor.options.model_dump(exclude_none=True))


def card(work: Work, step: int) -> str:
    """What it is, how it was trained, how it is loaded, and what was measured."""
    recipe = work.recipe
    how = {"flow-grpo": "Flow-GRPO", "nft": "DiffusionNFT"}[recipe.algorithm]
    learnt = ", ".join(f"{name} ({_kind(reward)})" for name, reward in recipe.rewards.items() if not reward.watch)
    on = recipe.contexts.path or f"stickers {recipe.contexts.stickers!r}, {recipe.contexts.count} contexts"
    load = _loading(recipe.editor, lora=work.policy.lora is not None)
    averaged = "moving averages of the weights" if recipe.ema else "the weights"
    return f"""---
base_model: {recipe.editor}
library_name: diffusers
tags: [image-editing, reinforcement-learning, editr1{", lora" if work.policy.lora else ""}]
---

# {recipe.name}

{recipe.editor}, trained by {how} for {step} iterations of {recipe.contexts_per_step} groups of {recipe.group_size}
pictures with editr1; these are {averaged}.

- learnt from: {learnt}
- on: {on}
- settings: `{SETTINGS_FILE}`; learning rate {recipe.learning_rate:g}, seed {recipe.seed}

```python
{load}
```

{_figures(work, step)}
"""


def _loading(editor: str, *, lora: bool) -> str:
    """The lines that load what was trained. A name of an editor that ships means nothing to diffusers."""
    if lora and resolve_editor(editor) != editor:
        make = f'editor = build_editor("{editor}", lora="path/to/this/folder")'
        return f"from editr1.editors import build_editor\n\n{make}  # editor.pipeline is the diffusers pipeline"
    base = editor if lora else "path/to/this/folder"
    load = f'from diffusers import DiffusionPipeline\n\npipeline = DiffusionPipeline.from_pretrained("{base}")'
    return load + ('\npipeline.load_lora_weights("path/to/this/folder")' if lora else "")


def _kind(reward: RewardConfig) -> str:
    """E.g. "verifier sticker-gcpo-small, 4 verdicts a picture"."""
    if reward.kind != "verifier":
        return reward.kind
    passes, model = reward.score.passes, reward.score.judge.model or "embedded"
    return f"verifier {SHIPPED.get(model, model)}" + (f", {passes} verdicts a picture" * (passes > 1))


def _figures(work: Work, step: int) -> str:
    """Held-out figures before training and at a step."""
    rows = {row["step"]: row for row in work.run.metrics() if "eval_reward" in row}
    if 0 not in rows or step not in rows:
        return "Nothing was measured on held-out contexts."
    names = [name for name in rows[step] if name.startswith("eval_") and name in rows[0]]
    lines = [f"| {name.removeprefix('eval_')} | {rows[0][name]:.4g} | {rows[step][name]:.4g} |" for name in names]
    assert work.evaluation is not None
    number = len(work.evaluation.contexts) * work.evaluation.recipe.seeds
    head = f"On {number} edits of held-out contexts, {work.evaluation.steps} steps of the sampler, fixed seeds:"
    return "\n".join([head, "", f"| | before | after {step} |", "|---|---|---|", *lines])
