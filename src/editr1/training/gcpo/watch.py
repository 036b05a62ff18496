"""What a GCPO run writes into its directory as it goes on: metrics, checkpoints, held-out accuracy, rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import TrainerCallback

from editr1.datasets.edits import EditRow
from editr1.datasets.verdicts import VerdictFile
from editr1.errors import ModelError
from editr1.files import write_atomic
from editr1.judges.base import Sampling
from editr1.judges.transformers import TransformersJudge
from editr1.rundir import MetricsLog, RunDir
from editr1.training.checkpoints import adopt_checkpoint
from editr1.training.gcpo.data import pair_at
from editr1.types import EditTask, EditVerdict, PreferencePair, Quadruple
from editr1.verifier.score import Verifier
from editr1.verifier.template import PromptTemplate


class HeldOut:
    """Scores held-out pairs with the model as it is, each half by itself, greedily, in one try.

    Args:
        pairs: from `load_pairs`.
        number: how many of them, from the first.
        template: prompt template.
        max_tokens: limit on an answer.
        max_pixels: larger pictures are scaled down to this area.
    """

    def __init__(
        self, pairs: Dataset, number: int, template: PromptTemplate, max_tokens: int, max_pixels: int | None = None
    ) -> None:
        self.pairs = [pair_at(pairs, i) for i in range(min(number, len(pairs)))]
        self._template, self._max_tokens, self._max_pixels = template, max_tokens, max_pixels
        self._verifier: Verifier | None = None

    def __call__(self, trainer: Any) -> list[tuple[EditVerdict, EditVerdict]]:
        """Verdicts on (preferred, other) of every pair; the processes share the work, and all get all."""
        if self._verifier is None:
            judge = TransformersJudge.from_objects(
                trainer.bare(trainer.model), trainer.processing_class, name="in training", max_pixels=self._max_pixels
            )
            sampling = Sampling(max_tokens=self._max_tokens)
            self._verifier = Verifier(judge, template=self._template, sampling=sampling, max_tries=1)
        accelerator = trainer.accelerator
        mine = range(accelerator.process_index, len(self.pairs), accelerator.num_processes)
        items = [_item(self.pairs[i], edited) for i in mine for edited in _halves(self.pairs[i])]
        found = self._verifier.score_many(items)
        scored = gather_object([(i, found[2 * n], found[2 * n + 1]) for n, i in enumerate(mine)])
        by_index = {i: (preferred, other) for i, preferred, other in scored}
        return [by_index[i] for i in range(len(self.pairs))]


def _halves(pair: PreferencePair) -> tuple[Any, Any]:
    return pair.preferred, pair.other


def _item(pair: PreferencePair, edited: Any) -> dict[str, Any]:
    task = pair.task
    return {
        "source": task.source,
        "edited": edited,
        "instruction": task.instruction,
        "principles": task.principles or None,
    }


def pair_figures(verdicts: Sequence[tuple[EditVerdict, EditVerdict]]) -> dict[str, float]:
    """How often the preferred edit scores higher, over pairs in which both were scored.

    Returns:
        heldout/strict: a tie is wrong; heldout/half_credit: a tie counts half; heldout/ties; all in [0, 1], over the
        pairs with both scores. heldout/failed: share of pairs without. heldout/score_preferred and
        heldout/score_other: means. What cannot be computed is left out.
    """
    both = [(a.score, b.score) for a, b in verdicts if a.score is not None and b.score is not None]
    figures = {"heldout/failed": 1 - len(both) / len(verdicts)} if verdicts else {}
    if both:
        wins, ties = fmean(a > b for a, b in both), fmean(a == b for a, b in both)
        figures |= {"heldout/strict": wins, "heldout/half_credit": wins + ties / 2, "heldout/ties": ties}
        figures["heldout/score_preferred"] = fmean(a for a, _ in both)
        figures["heldout/score_other"] = fmean(b for _, b in both)
    return figures


class Watch(TrainerCallback):
    """Writes metrics, held-out figures and rollouts as training goes on.

    Args:
        run: the run directory.
        log: its metrics.
        heldout: None for no measurements.
        eval_every: steps between them; they are also made before the first step and after the last.
        sample_every: steps between kept rollouts; 0 for none.
        samples: held-out pairs whose verdicts before and after are kept for the report.
        report: told every row.
    """

    def __init__(
        self,
        run: RunDir,
        log: MetricsLog,
        heldout: HeldOut | None,
        *,
        eval_every: int,
        sample_every: int,
        samples: int,
        report: Any = None,
    ) -> None:
        self._run, self._log, self._heldout = run, log, heldout
        self._eval_every, self._sample_every, self._samples = eval_every, sample_every, samples
        self._report = report or (lambda row: None)
        self._pending: dict[str, float] = {}
        self.trainer: Any = None  # known only after the trainer, which takes its callbacks at birth

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the parent, unless the run is a resumed one."""
        if state.global_step == 0:
            self._measure(0)
            self._write(0, {})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure and keep rollouts where it is their turn."""
        step = state.global_step
        if step == state.max_steps or (self._eval_every and step % self._eval_every == 0):
            self._measure(step)
        if self._sample_every and state.is_world_process_zero and (step == 1 or step % self._sample_every == 0):
            with MetricsLog(self._run.samples / "rollouts.jsonl") as file:
                for rollout in self.trainer.last_rollouts:
                    file.write(step, **rollout)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Take a row of TRL's; the one at the end of training, without a loss, says nothing new."""
        if logs and "loss" in logs:
            self._write(state.global_step, dict(logs))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write figures that no row has taken up."""
        self._write(state.global_step, {})

    def _write(self, step: int, values: dict[str, Any]) -> None:
        row, self._pending = values | self._pending, {}
        if row and self.trainer.accelerator.is_main_process:
            self._log.write(step, **row)
            self._report({"step": step, **row})

    def _measure(self, step: int) -> None:
        if self._heldout is None:
            return
        verdicts = self._heldout(self.trainer)
        self._pending = pair_figures(verdicts)
        if self.trainer.accelerator.is_main_process and (step in (0, self.trainer.state.max_steps)):
            self._keep(step, verdicts[: self._samples])

    def _keep(self, step: int, verdicts: Sequence[tuple[EditVerdict, EditVerdict]]) -> None:
        """Verdicts on a few pairs, with their pictures, in the form that `editr1 report` reads."""
        assert self._heldout is not None
        folder = self._run.samples / "pictures"
        with VerdictFile(self._run.path / "verdicts.jsonl") as file:
            for number, (pair, both) in enumerate(zip(self._heldout.pairs, verdicts, strict=False)):
                source = write_atomic(folder / f"{number}-source.png", cast(bytes, pair.task.source))
                task = EditTask("", source, pair.task.instruction, pair.task.principles, pair.task.kind)
                for name, edited, verdict in zip(("preferred", "other"), _halves(pair), both, strict=True):
                    picture = write_atomic(folder / f"{number}-{name}.png", bytes(edited))
                    row = EditRow(f"{number}/{name}@{step}", "", Quadruple(task, picture, f"{name}, step {step}"))
                    file.append(row, verdict)


class Checkpoints(TrainerCallback):
    """Moves what the trainer saved to where a run directory has it; `latest` is written last.

    Args:
        run: the run directory; the trainer's output folder is its `checkpoints/`.
        keep: how many are kept; None for all.
    """

    def __init__(self, run: RunDir, keep: int | None) -> None:
        self._run, self._keep = run, keep
        self.trainer: Any = None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the checkpoint that was just written."""
        accelerator = self.trainer.accelerator
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            adopt_checkpoint(self._run, saved, state.global_step, self._keep)
        accelerator.wait_for_everyone()


class SkipNonFinite(TrainerCallback):
    """Skips steps whose gradient is not finite, counts them, and stops the run when there are too many in a row.

    Args:
        most: steps in a row that may be skipped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_a_row = 0
        self.trainer: Any = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take the gradients away if one of them is not finite: the optimiser then leaves the weights alone."""
        accelerator = self.trainer.accelerator
        gradients = [getattr(p.grad, "_local_tensor", p.grad) for p in model.parameters() if p.grad is not None]
        sound = torch.stack([g.isfinite().all() for g in gradients]).all() if gradients else torch.tensor(True)
        bad = not bool(accelerator.gather(sound.to(accelerator.device)).all())
        self.trainer._metrics["train"]["skipped"].append(float(bad))
        if not bad:
            self._in_a_row = 0
            return
        model.zero_grad(set_to_none=True)
        self._in_a_row += 1
        if self._in_a_row > self._most:
            raise ModelError(
                f"the gradient was not finite in {self._in_a_row} steps in a row, up to step {state.global_step}: "
                "lower the learning rate, or set precision = 'float32'"
            )
