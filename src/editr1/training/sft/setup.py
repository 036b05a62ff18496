"""Before a fine-tuning run: what it needs is there, the recipe in the trainer's words, the directory of the run."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import PartialState
from trl.trainer.sft_config import SFTConfig

from editr1.errors import ConfigError, DataError
from editr1.files import write_json
from editr1.rundir import RunDir
from editr1.training.sft.data import Chats
from editr1.training.sft.model import Start, check_hub
from editr1.training.sft.recipe import SftRecipe

MAY_CHANGE = {
    "workers",
    "save_every",
    "keep",
    "tracker",
    "push_to_hub",
    "hub_private",
    "micro_batch_size",
    "compile",
    "about",
    "pad_to",
}
"""Settings that a resumed run may have otherwise than when it began: the losses stay the same, up to rounding."""

WAIT = 7200
"""Seconds that processes wait for one another: one measures the chats, or writes the model, while the others wait."""


def check_surroundings(recipe: SftRecipe) -> None:
    """What a run would miss at its end, or cannot do under this launch, is said at its beginning.

    Raises:
        ConfigError: if the tracker is not installed, the hub has no login, or the launch does not go with the recipe.
    """
    if recipe.tracker != "none" and find_spec(recipe.tracker) is None:
        raise ConfigError(
            f"the tracker {recipe.tracker!r} is not installed: uv pip install {recipe.tracker}, or set tracker=none"
        )
    sharded = [name for name in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"]
    if recipe.optimizer == "muon" and sharded:
        raise ConfigError(f'optimizer = "muon" needs whole matrices, and {sharded[0]} shards them: use "adamw"')
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        if recipe.lora is not None:
            raise ConfigError("LoRA does not go with FSDP: launch it on one GPU, or on several with --multi_gpu")
        if recipe.held_out.every and recipe.held_out.edits:
            raise ConfigError(
                "weights that FSDP shards cannot answer while they train: set held_out.edits=0, and evaluate the "
                "finished model"
            )
    if recipe.push_to_hub and int(os.environ.get("RANK", "0")) == 0:
        check_hub(recipe.push_to_hub)


def trainer_arguments(recipe: SftRecipe, folder: Path, *, on_gpu: bool) -> SFTConfig:
    """The recipe in the trainer's words; starts the group of processes."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if on_gpu and processes == 1 and torch.cuda.device_count() > 1:
        raise ConfigError(
            f"one process sees {torch.cuda.device_count()} GPUs: use `accelerate launch --multi_gpu -m editr1 ...`, "
            f"or set CUDA_VISIBLE_DEVICES=0"
        )
    at_once = recipe.micro_batch_size * processes
    if recipe.batch_size % at_once:
        raise ConfigError(
            f"batch_size = {recipe.batch_size} cannot be shared by {processes} processes with micro_batch_size = "
            f"{recipe.micro_batch_size}: make it a multiple of {at_once}"
        )
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # rows are encoded in forked workers
    with warnings.catch_warnings():
        # transformers 5.23 calls the switch of gradient checkpointing otherwise than 5.17, and takes the old name too
        warnings.simplefilter("ignore", FutureWarning)
        return _arguments(recipe, folder, recipe.batch_size // at_once, on_gpu=on_gpu)


def _arguments(recipe: SftRecipe, folder: Path, accumulation: int, *, on_gpu: bool) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder / "checkpoints" / ".writing"),
        run_name=recipe.name,
        max_steps=1,  # set when the number of chats is known
        per_device_train_batch_size=recipe.micro_batch_size,
        per_device_eval_batch_size=recipe.micro_batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        gradient_checkpointing=recipe.gradient_checkpointing,
        seed=recipe.seed,
        logging_steps=recipe.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=recipe.save_every,
        eval_strategy="steps" if recipe.held_out.every else "no",
        eval_steps=recipe.held_out.every or None,
        prediction_loss_only=True,
        dataloader_num_workers=recipe.workers,
        dataloader_persistent_workers=False,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        report_to=recipe.tracker,
        disable_tqdm=True,
        use_cpu=not on_gpu,
        ddp_timeout=WAIT,
    )


def open_run(recipe: SftRecipe, folder: Path, state: PartialState) -> RunDir:
    """The run directory, made by the first process; a run with other settings is not gone on with."""
    if (folder / "config.json").is_file():
        before = RunDir.open(folder).config
        now = recipe.model_dump(mode="json")
        changed = [key for key in now if key not in MAY_CHANGE and before.get(key, now[key]) != now[key]]
        if changed:
            key = changed[0]
            raise ConfigError(
                f"{folder} holds a run with {key} = {before[key]!r}, not {now[key]!r}: choose another one with --out"
            )
    state.wait_for_everyone()
    if state.is_main_process:
        RunDir.create(folder, recipe.model_dump(mode="json"), seeds={"training": recipe.seed}, resume=True)
        shutil.rmtree(folder / "checkpoints" / ".writing", ignore_errors=True)
    state.wait_for_everyone()
    return RunDir(folder)


def remember_data(run: RunDir, chats: Chats, start: Start, state: PartialState) -> None:
    """Write what was learnt from, and from which weights; a run goes on with these and no others."""
    path = run.path / "data.json"
    now = {"chats": len(chats), "left_out": chats.left_out, "digest": chats.digest(), "parent": start.fingerprint}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if changed := [key for key, value in now.items() if before.get(key) != value]:
            raise DataError(
                f"{run.path} was begun with other data or another parent ({changed[0]} was {before.get(changed[0])!r}, "
                f"is {now[changed[0]]!r}): choose another directory with --out"
            )
    state.wait_for_everyone()
    if state.is_main_process and not path.is_file():
        write_json(path, now)
