"""Cold-start fine-tuning of a verifier on exported reasoning traces (section 4), on TRL's SFTTrainer.

Ours is what a verifier needs: chats encoded as the judge encodes them, an order of steps that any number of processes
shares, measurement by free generation, and a run directory that a killed run goes on from with the same losses.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from editr1.errors import DataError, MissingExtraError, ModelError
from editr1.rundir import MetricsLog, RunDir
from editr1.training.checkpoints import adopt_checkpoint
from editr1.training.finish import name_base
from editr1.training.muon import MuonAdamW
from editr1.training.sft.data import (
    Chats,
    Collator,
    TrainingOrder,
    find_files,
    find_template,
    index_chats,
    open_rows,
)
from editr1.training.sft.encode import Encoder
from editr1.training.sft.evaluate import agreement, choose_edits, judge_edits
from editr1.training.sft.model import Start, load_start, lora_config, push, write_card, write_model
from editr1.training.sft.recipe import SftRecipe
from editr1.verifier.modes import mode_template
from editr1.verifier.template import PromptTemplate

try:
    import datasets
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list, gather_object
    from transformers import PrinterCallback, TrainerCallback
    from transformers.utils.logging import disable_progress_bar
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from editr1.training.sft.setup import check_surroundings, open_run, remember_data, trainer_arguments
except ImportError as exc:
    raise MissingExtraError("training", "train") from exc

Report = Callable[[dict[str, Any]], None]

_ROW_NAMES = {"mean_token_accuracy": "token_accuracy", "eval_mean_token_accuracy": "eval_token_accuracy"}
_NOT_LOGGED = ("runtime", "per_second", "flos", "num_tokens", "epoch")


def train_sft(recipe: SftRecipe, folder: Path, report: Report | None = None) -> Path:
    """Fine-tune into a run directory; an interrupted run there is continued.

    Under `accelerate launch` it is called by every process.

    Args:
        recipe: what to train, and how.
        folder: of the run; metrics, checkpoints and, in the end, `model/` (with LoRA also `adapter/`) lie there.
        report: called in the first process with each row of the metrics, and "step" and "steps".

    Returns:
        the folder of the finished model; with LoRA and `merge = false`, of the adapter.

    Raises:
        ConfigError, DataError, ModelError: if the recipe asks for what cannot be done.
        MissingExtraError: without the extra "train".
    """
    check_surroundings(recipe)
    train_files, held_out_files = find_files(recipe.data)
    on_gpu = recipe.device == "auto" and torch.cuda.is_available()
    arguments = trainer_arguments(recipe, folder, on_gpu=on_gpu)
    state = PartialState()
    run = open_run(recipe, folder, state)
    finished = run.path / ("model" if recipe.lora is None or recipe.lora.merge else "adapter")
    if not (finished / "training.json").is_file():
        _train(recipe, run, arguments, (train_files, held_out_files), finished, report)
    if recipe.push_to_hub and state.is_main_process:
        push(finished, recipe.push_to_hub, private=recipe.hub_private)
    state.wait_for_everyone()
    return finished


def _train(
    recipe: SftRecipe,
    run: RunDir,
    arguments: SFTConfig,
    files: tuple[list[Path], list[Path]],
    finished: Path,
    report: Report | None,
) -> None:
    """From the files to the finished model, going on from the last checkpoint."""
    state = PartialState()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        disable_progress_bar()
    rows = open_rows(files[0])
    _check_modes(rows, recipe)
    start = load_start(recipe, on_gpu=not arguments.use_cpu)
    encoder = Encoder(start.processor, start.end_tokens, pad_to=recipe.pad_to)
    chats, held_out = _index(rows, recipe, files[1], encoder, state)
    template = find_template(chats.prompt_hashes, recipe.modes[0], recipe.template)
    remember_data(run, chats, start, state)

    steps = recipe.steps or math.ceil(recipe.epochs * len(chats) / recipe.batch_size)
    arguments.max_steps = steps
    max_tokens = math.ceil(1.25 * chats.longest_answer / 64) * 64
    work = _Work(recipe, run, template, start, chats, held_out, encoder, steps, max_tokens)
    trainer = _Trainer(work, arguments)
    latest = run.latest_checkpoint()
    with run.log(after=latest[0] if latest else 0) if state.is_main_process else nullcontext() as log:
        trainer.add_callback(_Rows(work, log, report))
        trainer.train(resume_from_checkpoint=str(latest[1]) if latest else None)
        figures = _last_figures(work, state)
        if held_out is not None and not figures:
            figures = trainer.evaluate()
    _finish(trainer, work, finished, figures)


@dataclass(frozen=True, slots=True)
class _Work:
    """All that one run is about."""

    recipe: SftRecipe
    run: RunDir
    template: PromptTemplate
    start: Start
    chats: Chats
    held_out: Chats | None
    encoder: Encoder
    steps: int
    max_tokens: int


class _Trainer(SFTTrainer):
    """TRL's trainer with our order of steps, checkpoints in the run directory, and judgements of held-out edits."""

    def __init__(self, work: _Work, arguments: SFTConfig) -> None:
        self.work = work
        recipe, model = work.recipe, work.start.model
        lora = None if recipe.lora is None else lora_config(model, recipe.lora, vision=recipe.vision_trains)
        rows = [work.chats.rows] + ([] if work.held_out is None else [work.held_out.rows])
        super().__init__(
            model=model,
            args=arguments,
            data_collator=Collator(rows, work.encoder),
            train_dataset=work.chats.dataset(0),
            eval_dataset=None if work.held_out is None else work.held_out.dataset(1),
            processing_class=work.start.processor,
            peft_config=lora,
        )
        if recipe.compile:
            from editr1.training.uniform import compile_blocks

            compile_blocks(model)
        self.remove_callback(PrinterCallback)
        # Models say here whether their own loss takes the number of tokens of a whole step, and those of Qwen2.5-VL say
        # no. The loss is TRL's, which does: without this, a step's loss is the mean of its micro-batches' means.
        self.model_accepts_loss_kwargs = True

    def create_optimizer(self, *args: Any, **options: Any) -> torch.optim.Optimizer:
        """The recipe's: transformers has no Muon."""
        recipe = self.work.recipe
        if recipe.optimizer == "muon" and self.optimizer is None:
            model: Any = self.model
            self.optimizer = MuonAdamW(model, recipe.learning_rate, recipe.weight_decay)
        return super().create_optimizer(*args, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> TrainingOrder:
        recipe, chats = self.work.recipe, self.work.chats
        return TrainingOrder(chats.lengths, recipe.batch_size, self.work.steps, seed=recipe.seed, bucket=recipe.bucket)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        """TRL's loss, under faster attention if the recipe wants it.

        Raises:
            DataError: if pictures differ in size, and the faster attention takes them to be of one.
        """
        if not self.work.recipe.uniform_pictures:
            return super().compute_loss(model, inputs, *args, **options)
        from editr1.training.uniform import uniform_pictures

        grid = inputs["image_grid_thw"]
        if (grid != grid[0]).any():
            raise DataError("uniform_pictures is set, but pictures differ in size: set uniform_pictures=false")
        with uniform_pictures(self.model):
            return super().compute_loss(model, inputs, *args, **options)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """The held-out loss, then judgements by free generation; both are logged."""
        figures: dict[str, float] = super().evaluate(*args, **options)
        judged = {f"eval_{name}": value for name, value in self._judge_held_out().items()}
        if judged:
            self.log(dict(judged))
        return {name: value for name, value in (figures | judged).items() if not name.endswith(_NOT_LOGGED)}

    def _judge_held_out(self) -> dict[str, float]:
        work, settings = self.work, self.work.recipe.held_out
        if work.held_out is None or not settings.edits:
            return {}
        from editr1.judges.transformers import TransformersJudge

        edits = choose_edits(work.held_out.rows, settings.edits)
        model: Any = self.model
        if work.recipe.lora is not None:
            model = model.get_base_model()
        judge = TransformersJudge.from_objects(
            model,
            work.start.processor,
            name=work.recipe.name,
            batch_size=settings.batch_size,
            engine="generate" if model.device.type == "cuda" else "auto",
        )
        mine = range(self.args.process_index, len(edits), self.args.world_size)
        mode = work.recipe.modes[0]
        asked = mode_template(work.template, mode)
        said = judge_edits(judge, asked, mode, [edits[i] for i in mine], max_tokens=work.max_tokens)
        gathered = gather_object(list(zip(mine, said, strict=True)))
        return agreement(edits, [judged for _, judged in sorted(gathered, key=lambda pair: pair[0])])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As transformers writes it, then into its place in the run directory at once."""
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            run, step = self.work.run, self.state.global_step
            writing = Path(str(self.args.output_dir))
            adopt_checkpoint(run, writing / f"checkpoint-{step}", step, self.work.recipe.keep)
            shutil.rmtree(writing)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Whole weights are read by the model's class, and all of them have to be there.

        transformers' own way looks for the names of the model in memory, not for those on disk, which differ for
        Qwen2.5-VL; what it does not find it leaves as it is, with a warning: the run would go on from the parent.
        """
        if self.work.recipe.lora is not None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        target: Any = self.model
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(saved.state_dict())

    def create_model_card(self, *args: Any, **options: Any) -> None:
        """None for a checkpoint: the finished model gets ours."""


class _Rows(TrainerCallback):
    """Writes what is logged to the run directory, and stops a run whose loss is no number."""

    def __init__(self, work: _Work, log: MetricsLog | None, report: Report | None) -> None:
        self.work, self.log, self.report = work, log, report

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Rows have the trainer's names; times and totals are left out."""
        logs: Mapping[str, float] = given["logs"]
        if "train_runtime" in logs:
            return
        step = state.global_step
        row = {_ROW_NAMES.get(n, n): value for n, value in logs.items() if not n.endswith(_NOT_LOGGED)}
        row["epoch"] = round(step * self.work.recipe.batch_size / len(self.work.chats), 4)
        if self.log is not None:
            self.log.write(step, **row)
            if self.report is not None:
                self.report({"step": step, "steps": self.work.steps, **row})
        for name in ("loss", "eval_loss", "grad_norm"):
            if not math.isfinite(row.get(name, 0.0)):
                raise ModelError(
                    f"{name} is {row[name]} at step {step}: lower learning_rate or raise warmup, and start again"
                )


def _check_modes(rows: Any, recipe: SftRecipe) -> None:
    """A mode that the first row lacks is most likely a mode that none has: said before a large model is loaded."""
    there = [chat["mode"] for chat in rows[0]["chats"]] if len(rows) else []
    if missing := [mode for mode in recipe.modes if mode not in there]:
        raise DataError(
            f"{recipe.data[0]} has no chats in the mode {missing[0]!r} (it has {', '.join(there) or 'no rows'}): set "
            f"modes, or list it in export.modes of the curation"
        )


def _index(
    rows: Any, recipe: SftRecipe, held_out_files: list[Path], encoder: Encoder, state: PartialState
) -> tuple[Chats, Chats | None]:
    """The chats to learn from, and the held-out ones, if something is to be measured on them."""

    def index(some: Any) -> Chats:
        return index_chats(
            some,
            recipe.modes,
            encoder,
            max_length=recipe.max_length,
            workers=recipe.workers,
            first=state.main_process_first(),
        )

    chats = index(rows)
    if not recipe.held_out.every:
        return chats, None
    if not held_out_files:
        raise DataError(
            f"{recipe.data[0]} has no held-out rows to measure on: set export.holdout in the curation, or "
            f"held_out.every=0"
        )
    return chats, index(open_rows(held_out_files, for_judging=recipe.held_out.edits > 0)).sorted()


def _last_figures(work: _Work, state: PartialState) -> dict[str, float]:
    """What was measured after the last step and is in the metrics already; nothing if that is still to be done."""
    state.wait_for_everyone()
    found: dict[str, float] = {}
    if state.is_main_process:
        for row in work.run.metrics():
            if row["step"] == work.steps:
                found |= {name: value for name, value in row.items() if name.startswith("eval_")}
        if work.recipe.held_out.edits and "eval_judged" not in found:  # killed between the two measurements
            found = {}
    shared: list[dict[str, float]] = broadcast_object_list([found])
    return shared[0]


def _finish(trainer: _Trainer, work: _Work, finished: Path, figures: Mapping[str, float]) -> None:
    """Write the model, and its card last: what has one is whole."""
    recipe, run, processor = work.recipe, work.run, work.start.processor
    model: Any = trainer.model
    parameters = list(model.parameters())
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if recipe.lora is None else {}
    if trainer.is_world_process_zero():
        if recipe.lora is not None:
            model.save_pretrained(run.path / "adapter")
            name_base(run.path / "adapter", recipe.model)
            processor.save_pretrained(run.path / "adapter")
            if recipe.lora.merge:
                model = model.merge_and_unload()
                state = model.state_dict()
        if state:
            write_model(run.path / "model", model, state, processor, recipe, work.template, max_tokens=work.max_tokens)
        facts = {
            "parameters": sum(p.numel() for p in parameters),
            "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "chats": len(work.chats),
            "left_out": work.chats.left_out,
            "steps": work.steps,
            "held_out": {name.removeprefix("eval_"): value for name, value in figures.items()},
            "parent": work.start.fingerprint,
            "data": work.chats.digest(),
        }
        for folder in dict.fromkeys([*([run.path / "adapter"] if recipe.lora else []), finished]):
            write_card(folder, recipe, facts)
    trainer.accelerator.wait_for_everyone()
