"""The model of a fine-tuning run: how it is loaded and adapted, and what is written when it is finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editr1.errors import ConfigError, ModelError
from editr1.files import write_json
from editr1.judges.loading import load
from editr1.judges.names import resolve_model
from editr1.training.cards import said_notice, write_verifier_card
from editr1.training.sft.recipe import LoraRecipe, SftRecipe
from editr1.training.vision import freeze_vision, text_side
from editr1.verifier.config import VerifierConfig
from editr1.verifier.modes import mode_template
from editr1.verifier.template import PromptTemplate


@dataclass(frozen=True, slots=True)
class Start:
    """What training starts from; `fingerprint` identifies the weights."""

    model: Any
    processor: Any
    fingerprint: str

    @property
    def end_tokens(self) -> set[int]:
        """Ids at which the model stops."""
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = self.processor.tokenizer.eos_token_id
        return set(ends) if isinstance(ends, list | tuple) else {int(ends)}


def load_start(recipe: SftRecipe, *, on_gpu: bool) -> Start:
    """Load the model on the CPU, what is trained in float32, and set what trains.

    With LoRA on a GPU in bfloat16, the frozen weights are bfloat16: they are never updated, so nothing is lost.

    Raises:
        ModelError: if it is not there, is no image-text-to-text model, or cannot be set up as the recipe says.
        ConfigError: if a setting does not fit the model.
    """
    frozen_low = recipe.lora is not None and recipe.precision == "bf16" and on_gpu
    dtype = "bfloat16" if frozen_low else "float32"
    loaded = load(resolve_model(recipe.model), device="cpu", dtype=dtype, revision=recipe.revision)
    model = loaded.model
    if recipe.attention is not None:
        try:
            model.set_attn_implementation(recipe.attention)
        except (ValueError, ImportError) as exc:
            reason = " ".join(str(exc).split())[:200]
            raise ConfigError(f"the model cannot use attention = {recipe.attention!r} ({reason})") from exc
    if recipe.max_pixels is not None:
        bound_pictures(loaded.processor, recipe.max_pixels)
    if recipe.lora is None and not recipe.vision_trains:
        freeze_vision(model)
    return Start(model, loaded.processor, loaded.fingerprint)


def bound_pictures(processor: Any, max_pixels: int) -> None:
    """Make a processor of Qwen's kind scale pictures down to about an area; it is saved with this bound.

    Raises:
        ConfigError: if the processor does not bound pictures by their area.
    """
    size = processor.image_processor.size
    if "Qwen2VL" not in type(processor.image_processor).__name__ or size["shortest_edge"] > max_pixels:
        raise ConfigError(
            f"max_pixels = {max_pixels} cannot be set: {type(processor.image_processor).__name__} does not bound "
            f"pictures by their area, or needs more pixels than that"
        )
    processor.image_processor.size = {"shortest_edge": size["shortest_edge"], "longest_edge": max_pixels}


def lora_config(model: Any, recipe: LoraRecipe, *, vision: bool) -> Any:
    """The adapters' configuration for peft.

    Args:
        model: that gets them.
        recipe: their sizes and targets.
        vision: whether the vision tower gets some too.

    Raises:
        ConfigError: if no layer has the names that the recipe gives.
    """
    from peft import LoraConfig

    output = model.get_output_embeddings()
    inside = {id(m) for module in text_side(model) for m in module.modules()}
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output and (vision or id(module) in inside)
    ]
    if recipe.targets is not None:
        names = [name for name in names if name.rpartition(".")[2] in recipe.targets]
    if not names:
        raise ConfigError(f"no linear layer of the model is named by lora.targets = {', '.join(recipe.targets or ())}")
    return LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=names)


def write_model(
    folder: Path,
    model: Any,
    state: Mapping[str, Tensor],
    processor: Any,
    recipe: SftRecipe,
    template: PromptTemplate,
    *,
    max_tokens: int,
) -> None:
    """Write weights in bfloat16, processor, and how the verifier wants to be asked.

    Args:
        folder: written at once: it is there whole or not at all.
        model: without adapters; gives configuration and names.
        state: its weights, whole.
        processor: of the model.
        recipe: of the run.
        template: the base template; the first mode's form of it is kept beside the weights.
        max_tokens: limit on an answer.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    low: dict[tuple[int, Any], Tensor] = {}  # tensors that share memory go on sharing it, and are stored once

    def lower(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return low.setdefault((tensor.data_ptr(), tensor.shape), tensor.to(torch.bfloat16))

    model.save_pretrained(partial, state_dict={name: lower(tensor) for name, tensor in state.items()})
    config = partial / "config.json"
    write_json(config, _stated_as_bfloat16(json.loads(config.read_text(encoding="utf-8"))))
    processor.save_pretrained(partial)
    own = VerifierConfig(max_tokens=max_tokens, notice=recipe.notice, notice_unless=recipe.notice_unless)
    own.write(partial, mode_template(template, recipe.modes[0]))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _stated_as_bfloat16(config: Any) -> Any:
    """The configuration with the type that the weights were written in, and the cache that training switched off."""
    if not isinstance(config, dict):
        return config
    said = {key: _stated_as_bfloat16(value) for key, value in config.items()}
    return said | {key: value for key, value in (("dtype", "bfloat16"), ("use_cache", True)) if key in said}


def write_card(folder: Path, recipe: SftRecipe, facts: Mapping[str, Any]) -> Path:
    """Write `README.md`, the model card, and `training.json`, all settings and figures, beside the weights.

    Args:
        folder: of the model.
        recipe: of the run.
        facts: "parameters", "trained_parameters", "chats", "left_out", "steps", "held_out" (figures by name), "parent"
            (its fingerprint), "data" (a digest).
    """
    write_json(folder / "training.json", {"recipe": recipe.model_dump(mode="json"), **facts})
    how = "full fine-tuning" if recipe.lora is None else f"LoRA, rank {recipe.lora.rank}, alpha {recipe.lora.alpha}"
    figures = [f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in facts["held_out"].items()]
    left_out = f" ({facts['left_out']:,} longer than {recipe.max_length} tokens left out)" if facts["left_out"] else ""
    return write_verifier_card(
        folder,
        recipe.name,
        recipe.model,
        how=f"fine-tuned on reasoning traces (mode {', '.join(recipe.modes)}) with editr1, after section 4 of the "
        "Edit-R1 paper",
        tag="sft",
        facts={
            "Learnt from": f"{facts['chats']:,} chats{left_out}, digest `{facts['data']}`; loss on the answers only.",
            "Training": f"{how}; {facts['steps']:,} steps of {recipe.batch_size}, peak learning rate "
            f"{recipe.learning_rate:g}, {recipe.schedule} schedule, {recipe.precision}, seed {recipe.seed}. All "
            "settings are in `training.json`.",
            "Size": f"{facts['parameters'] / 1e6:,.1f} M parameters, {facts['trained_parameters'] / 1e6:,.1f} M of "
            "them trained.",
            "Limits": "it has learnt to judge edits like those of its data, as its data's judges do."
            + said_notice(recipe.notice),
        },
        about=recipe.about,
        tables=["Held-out rows:", "", "| | |", "|---|---|", *figures, ""] if figures else [],
    )


def check_hub(repository: str) -> None:
    """Find out before the training whether somebody is logged in to the hub.

    Raises:
        ConfigError: if not.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        HfApi().whoami()
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as exc:
        raise ConfigError(
            f"push_to_hub = {repository!r} needs a login that the hub accepts ({_first_line(exc)}): run  hf auth login"
        ) from exc


def push(folder: Path, repository: str, *, private: bool) -> None:
    """Put a finished model on the hub.

    Raises:
        ModelError: if the hub does not take it; the folder stays.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().create_repo(repository, private=private, exist_ok=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder, commit_message="Add the fine-tuned verifier")
    except (HfHubHTTPError, OSError, ValueError) as exc:
        raise ModelError(f"the model is in {folder}, but {repository!r} did not take it ({_first_line(exc)})") from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
