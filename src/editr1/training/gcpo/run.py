"""A GCPO run: from a recipe to a verifier in a run directory. Killed, it goes on from its last checkpoint."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl.trainer.grpo_config import GRPOConfig

from editr1.errors import ConfigError, MissingExtraError, ModelError
from editr1.judges.loading import merge
from editr1.judges.names import resolve_model, split_adapter
from editr1.rundir import MetricsLog, RunDir
from editr1.training.finish import name_base
from editr1.training.gcpo.card import write_card
from editr1.training.gcpo.data import Halves, load_pairs
from editr1.training.gcpo.recipe import GcpoRecipe, Lora
from editr1.training.gcpo.stickers import write_sticker_preferences
from editr1.training.gcpo.trainer import GCPOTrainer
from editr1.training.gcpo.watch import Checkpoints, HeldOut, SkipNonFinite, Watch
from editr1.training.vision import freeze_vision
from editr1.verifier.config import VerifierConfig, find_config
from editr1.verifier.template import PromptTemplate, load_template

Report = Callable[[dict[str, Any]], None]


def train_gcpo(
    recipe: GcpoRecipe, folder: Path, report: Report | None = None, callbacks: Sequence[TrainerCallback] = ()
) -> Path:
    """Train into a run directory; an interrupted run there is continued.

    Args:
        recipe: what to train, and how.
        folder: of the run: metrics.jsonl, samples/, checkpoints/, verdicts.jsonl and, in the end, model/.
        report: called with each row of metrics.
        callbacks: further ones of transformers' Trainer; they are called before those of the run itself.

    Returns:
        the folder of the finished verifier; under LoRA, of its adapter.

    Raises:
        ConfigError, DataError, ModelError: if the recipe cannot be run.
    """
    datasets.disable_progress_bars()
    disable_progress_bar()
    main = int(os.environ.get("RANK", "0")) == 0
    if main:
        run = RunDir.create(folder, recipe.model_dump(mode="json"), seeds={"all": recipe.seed}, resume=True)
    else:
        run = RunDir(folder)
    args = settings(recipe, run)  # joins the other processes
    pairs = _pairs_folder(recipe, run, main=main)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    asked, template = _asked(recipe)
    args.max_completion_length = recipe.max_tokens or asked.max_tokens
    model, processor = _load(recipe)
    latest = run.latest_checkpoint()
    halves = Halves(load_pairs(pairs / "train.parquet"), template, processor, recipe.max_pixels)
    with _log(run, latest, main=main) as log:
        watch = _watch(recipe, run, log, pairs, template, args.max_completion_length, report)
        helpers: list[Any] = [watch, Checkpoints(run, recipe.keep_checkpoints), SkipNonFinite(recipe.max_skipped)]
        trainer = GCPOTrainer(
            model,
            args,
            halves.dataset(),
            processing_class=processor,
            engine=recipe.engine if recipe.engine in ("fast", "generate") else "auto",
            share_prefix=recipe.share_prefix,
            callbacks=[*callbacks, *helpers],
            peft_config=None if recipe.lora is None else _lora(recipe.lora),
        )
        _quieten(trainer)
        for helper in helpers:
            helper.trainer = trainer
        if recipe.heldout_pairs and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            raise ConfigError("heldout_pairs must be 0 where weights are sharded: measure models with  editr1 eval")
        if latest is None or latest[0] < recipe.steps:
            trainer.train(resume_from_checkpoint=None if latest is None else str(latest[1]))
        else:  # all that is left is to write the model
            trainer._load_from_checkpoint(str(latest[1]))
    return _save(trainer, run, recipe, asked, template)


def settings(recipe: GcpoRecipe, run: RunDir) -> GRPOConfig:
    """TRL's settings for a recipe.

    Raises:
        ConfigError: if the pairs cannot be shared out over the processes, or `[trl]` holds what cannot be had.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    halves = 2 * recipe.pairs_per_step
    if recipe.pairs_per_step % processes or halves // processes % recipe.halves_per_pass:
        raise ConfigError(
            f"{recipe.pairs_per_step} pairs a step cannot be shared by {processes} processes in passes of "
            f"{recipe.halves_per_pass} halves: make pairs_per_step a multiple of {processes}, and halves_per_pass a "
            "divisor of each process's halves"
        )
    passes = halves // processes // recipe.halves_per_pass
    known = {f.name for f in fields_of(GRPOConfig)}
    for key in recipe.trl:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"trl.{key} is no setting of TRL's GRPOConfig" + (f": is it '{near[0]}'?" if near else "")
            )
    on_cpu = recipe.device == "cpu" or not torch.cuda.is_available()
    precision = recipe.precision or ("float32" if on_cpu else "bfloat16")
    vllm = {"use_vllm": True, "vllm_mode": recipe.engine.removeprefix("vllm-")} if "vllm" in recipe.engine else {}
    chosen: dict[str, Any] = {
        "output_dir": str(run.checkpoints),
        "per_device_train_batch_size": recipe.halves_per_pass * recipe.rollouts,
        "gradient_accumulation_steps": passes,
        "steps_per_generation": passes * recipe.updates_per_rollout,
        "num_generations": recipe.rollouts,
        "num_iterations": recipe.iterations,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "max_steps": recipe.steps,
        "epsilon": recipe.clip,
        "epsilon_high": recipe.clip_high,
        "beta": recipe.beta,
        "loss_type": recipe.loss_type,
        "scale_rewards": "none",
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "bf16": precision == "bfloat16",
        "use_cpu": on_cpu,
        "seed": recipe.seed,
        "logging_steps": recipe.log_every,
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
    }
    try:
        return GRPOConfig(**chosen | vllm | recipe.trl)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"TRL does not take these settings: {exc}") from exc


def _pairs_folder(recipe: GcpoRecipe, run: RunDir, *, main: bool) -> Path:
    """Where the pairs are; simulated ones are made first, once."""
    if recipe.stickers is None:
        return Path(str(recipe.pairs)).expanduser()
    folder, drawn = run.path / "pairs", recipe.stickers
    sizes = {"train": (drawn.split, drawn.train), "heldout": (drawn.heldout_split, drawn.heldout)}
    if drawn.split == drawn.heldout_split:
        raise ConfigError(f"stickers.split and heldout_split are both {drawn.split!r}: name two draws")
    if main and not all((folder / f"manifest-{name}.json").is_file() for name in sizes):
        write_sticker_preferences(folder, sizes, drawn.people)
    return folder


def _asked(recipe: GcpoRecipe) -> tuple[VerifierConfig, PromptTemplate]:
    """How the parent wants to be asked, and with which template."""
    path = find_config(resolve_model(recipe.parent))
    config = VerifierConfig() if path is None else VerifierConfig.read(path)
    template = load_template(recipe.template) if recipe.template else config.load_template(path and path.parent)
    return config, template


def _load(recipe: GcpoRecipe) -> tuple[Any, Any]:
    """Model and processor."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    on_cpu = recipe.device == "cpu" or not torch.cuda.is_available()
    weights = recipe.weights or ("float32" if recipe.lora is None or on_cpu else "auto")
    path, adapter = split_adapter(resolve_model(recipe.parent))
    if adapter is not None and recipe.lora is not None:
        raise ConfigError(
            f"the parent {recipe.parent!r} is an adapter: train it in full, or merge it into a model first"
        )
    try:
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=weights, use_safetensors=True)
        processor = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError, KeyError, ImportError) as exc:
        raise ModelError(f"the parent {recipe.parent!r} cannot be loaded: {' '.join(str(exc).split())[:240]}") from exc
    if adapter is not None:
        model = merge(model, adapter)
    if not recipe.train_vision:
        freeze_vision(model)
    return model, processor


def _lora(lora: Lora) -> Any:
    try:
        from peft import LoraConfig
    except ImportError as exc:
        raise MissingExtraError("LoRA", "train") from exc
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )


def _watch(
    recipe: GcpoRecipe,
    run: RunDir,
    log: MetricsLog,
    pairs: Path,
    template: PromptTemplate,
    max_tokens: int,
    report: Report | None,
) -> Watch:
    heldout = None
    if recipe.heldout_pairs:
        found = load_pairs(pairs / "heldout.parquet")
        heldout = HeldOut(found, recipe.heldout_pairs, template, max_tokens, recipe.max_pixels)
    return Watch(
        run,
        log,
        heldout,
        eval_every=recipe.eval_every,
        sample_every=recipe.sample_every,
        samples=recipe.samples,
        report=report,
    )


def _log(run: RunDir, latest: tuple[int, Path] | None, *, main: bool) -> MetricsLog:
    """The metrics; of all files that rows are added to, those of steps that will be done again are dropped."""
    if not main:
        return MetricsLog(Path(os.devnull))
    after = 0 if latest is None else latest[0]
    if latest is None:
        for name in ("metrics.jsonl", "verdicts.jsonl", "samples/rollouts.jsonl"):
            (run.path / name).unlink(missing_ok=True)
    with MetricsLog(run.samples / "rollouts.jsonl", after=after):
        pass
    return run.log(after=after)


def _quieten(trainer: GCPOTrainer) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _save(
    trainer: GCPOTrainer, run: RunDir, recipe: GcpoRecipe, asked: VerifierConfig, template: PromptTemplate
) -> Path:
    """Write the finished verifier, or its adapter, in the precision that it was trained in.

    Its parent's bfloat16 would not do: what training changes is often smaller than half of a weight's last digit there,
    and would be rounded away.
    """
    folder, partial = run.path / "model", run.path / ".model.partial"
    accelerator = trainer.accelerator
    state = accelerator.get_state_dict(trainer.model)
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        accelerator.unwrap_model(trainer.model).save_pretrained(partial, state_dict=state)
        trainer.processor.save_pretrained(partial)
        asked.write(partial, template)
        if recipe.lora is not None:
            name_base(partial, recipe.parent)
        write_card(partial, recipe, asked, list(run.metrics()))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    accelerator.wait_for_everyone()
    return folder
