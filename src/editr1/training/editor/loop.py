"""Reinforcement learning of an editor with a verifier's scores, stage 3: the loop, from top to bottom.

    for each iteration
        draw contexts; make a group of pictures of each, and score each group while the next one is made
        advantages: how much better than its group each picture is
        learn: one gradient over all groups and processes, one step of the optimizer (or a few)
        now and then: edit held-out contexts with fixed seeds, keep pictures, write a checkpoint

Everything drawn is a function of (seed, iteration, slot, sample), so a killed run goes on as if nothing had happened,
and the groups are the same however many processes share them. Each process has whole groups; rewards are gathered, and
all processes compute all advantages. Gradients are summed over processes in `update`, not by DDP: processes may
then have different numbers of micro-batches, as they do where flat groups are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from editr1.errors import ModelError, RewardError
from editr1.objectives.advantages import flat_groups, group_advantages
from editr1.rewards.base import Reward, values
from editr1.rundir import MetricsLog
from editr1.training.editor.algorithm import OLD
from editr1.training.editor.contexts import chosen, derive_seed, usable
from editr1.training.editor.evaluate import Pictures, Shown
from editr1.training.editor.export import export
from editr1.training.editor.policy import EMA
from editr1.training.editor.recipe import EditorRecipe
from editr1.training.editor.rollouts import Seconds, collect
from editr1.training.editor.setup import Work, prepare
from editr1.training.editor.state import Progress
from editr1.training.editor.watch import reward_metrics

Report = Callable[[dict[str, Any]], None]
Row = dict[str, Any]


def train_editor(
    recipe: EditorRecipe, folder: Path, make_reward: Callable[[], Reward], report: Report | None = None
) -> Path:
    """Train into a run directory; an interrupted run there is continued.

    Under `accelerate launch` it is called by every process.

    Args:
        recipe: what to train, and how.
        folder: of the run: metrics.jsonl, samples/, checkpoints/ and, in the end, lora/ (or pipeline/) and best/.
        make_reward: called once in each process, when it has its device.
        report: called in the first process with each row of metrics, and "steps".

    Returns:
        the folder that was exported: of a LoRA for `load_lora_weights`, or of a whole pipeline.

    Raises:
        ConfigError, DataError, ModelError: if the recipe cannot be run, or gradients stay without finite numbers.
        RewardError: if too many rewards fail; there is a checkpoint then.
    """
    work = prepare(recipe, folder, make_reward)
    progress = _restore(work)
    with ExitStack() as stack:
        stack.enter_context(work.scorer)
        log = _Log(work, progress, report, stack)
        try:
            _begin(work, progress, log)
            while progress.iteration < recipe.steps:
                seconds = Seconds()
                row = iterate(work, progress, seconds)
                last = progress.iteration == recipe.steps
                try:
                    if work.evaluation is not None and (last or progress.iteration % work.evaluation.recipe.every == 0):
                        with seconds.measure("evaluation"):
                            row |= _evaluate(work, progress, log)
                finally:  # what was learnt is logged, whatever happens to its evaluation
                    log.write(progress.iteration, row | _speed(work, seconds))
                if last or progress.iteration % recipe.save_every == 0 or _is_best(progress):
                    work.checkpoints.save(progress)
                _check_gradients(work, progress)
        except RewardError as exc:
            raise _stopped(work, progress, exc) from exc
    return export(work, progress)


def _begin(work: Work, progress: Progress, log: _Log) -> None:
    """Evaluate what there is before training, once."""
    if progress.started:
        return
    if work.evaluation is not None:
        log.write(0, _evaluate(work, progress, log))
    progress.started = True
    work.checkpoints.save(progress)


def iterate(work: Work, progress: Progress, seconds: Seconds) -> Row:
    """One iteration: sample and score a group for each context, then learn from all of them.

    Args:
        work: what the run is made of, from `prepare`; its weights change.
        progress: of the run; it is brought up to date.
        seconds: what each part took is added to it.

    Returns:
        the row for the log: rewards over all processes, what learning reports, and how many judgements failed.

    Raises:
        RewardError: if too many judgements failed, as the recipe's `failures` says.
    """
    recipe, iteration = work.recipe, progress.iteration
    places = chosen(iteration, recipe.contexts_per_step, len(work.contexts), recipe.seed)
    draw = work.algorithm.draw(iteration)
    with work.policy.using(work.algorithm.sampled_by):
        groups, records = collect(
            work.editor,
            work.cache,
            {slot: usable(work.contexts, places[slot]) for slot in work.slots},
            draw,
            work.scoring(),
            work.gather,
            seconds,
            steps=work.steps,
            group_size=recipe.group_size,
            batch_size=recipe.sampling.batch_size,
            seed=(recipe.seed, iteration),
        )
    for record in records:
        work.guard.record(record.results)
    with seconds.measure("training"):
        rewards = torch.tensor([values(record.results) for record in records], dtype=torch.float32)
        advantages = group_advantages(rewards, recipe.advantages.scale, recipe.advantages.clamp)
        live = rewards.isfinite() & ~flat_groups(rewards)[:, None]
        learnt = work.learner.learn(groups, advantages, live, iteration)
        _follow(work, iteration)
    progress.iteration += 1
    progress.skipped = progress.skipped + 1 if learnt["skipped"] else 0
    progress.guard = work.guard.state_dict()
    window = {} if not draw.window else {"window": list(draw.window)}
    return reward_metrics(records, work.watched) | learnt | work.guard.metrics() | window


def _follow(work: Work, iteration: int) -> None:
    """Bring the old policy and the moving average nearer."""
    policy, ema = work.policy, work.recipe.ema
    if OLD in policy.copies:
        policy.follow(OLD, work.algorithm.old_decay(iteration))
    if ema is not None and (iteration + 1) % ema.every == 0:
        done = (iteration + 1) // ema.every
        policy.follow(EMA, min(ema.decay, (1 + done) / (10 + done)))


def _evaluate(work: Work, progress: Progress, log: _Log) -> Row:
    """Metrics on held-out contexts; takes note of the best."""
    assert work.evaluation is not None
    with work.policy.using(work.policy.best_for_use):
        metrics, shown = work.evaluation.run()
    log.pictures(progress.iteration, shown)
    reward = metrics.get("eval_reward")
    if reward is None or metrics["eval_unscored"] > work.recipe.failures.max_share:
        return metrics  # not to be compared with others
    if progress.best is None or reward > progress.best[1]:
        progress.best = (progress.iteration, reward)
    return metrics


def _is_best(progress: Progress) -> bool:
    return progress.best is not None and progress.best[0] == progress.iteration


def _restore(work: Work) -> Progress:
    latest = work.run.latest_checkpoint()
    if latest is None:
        return Progress()
    progress = work.checkpoints.load(latest[1], work.accelerator.process_index)
    if progress.guard:
        work.guard.load_state_dict(progress.guard)
    return progress


def _stopped(work: Work, progress: Progress, exc: RewardError) -> RewardError:
    """The reward is lost: keep what was learnt, and say where."""
    latest = work.run.latest_checkpoint()
    work.gather([None])  # all have looked before the first one writes
    if latest is None or latest[0] < progress.iteration:
        work.checkpoints.save(progress)
    return RewardError(f"stopped in iteration {progress.iteration + 1}, the same command goes on from there: {exc}")


def _check_gradients(work: Work, progress: Progress) -> None:
    if progress.skipped < work.recipe.max_skipped:
        return
    progress.skipped = 0
    work.checkpoints.save(progress)
    raise ModelError(
        f"the gradient was not finite in {work.recipe.max_skipped} iterations in a row up to {progress.iteration}: "
        "lower learning_rate, or start from an earlier checkpoint"
    )


def _speed(work: Work, seconds: Seconds) -> Row:
    pictures = work.recipe.contexts_per_step * work.recipe.group_size
    spent = {f"seconds_{what}": round(value, 3) for what, value in asdict(seconds).items() if value}
    busy = seconds.sampling + seconds.scoring + seconds.training
    speed = {"samples_per_second": pictures / busy}
    if torch.cuda.is_available():
        speed["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return spent | speed


class _Log:
    """What the first process writes: metrics, pictures, tracker, and the caller's report. Others write nothing."""

    def __init__(self, work: Work, progress: Progress, report: Report | None, stack: ExitStack) -> None:
        self._work, self._report = work, report
        self._file: MetricsLog | None = None
        if not work.main:
            return
        after = progress.iteration if progress.started else -1  # rows of what will be done again go
        self._file = stack.enter_context(work.run.log(after=after))
        self._pictures = Pictures(work.run, after)
        if work.recipe.tracker != "none":
            again = {"wandb": {"id": f"{work.recipe.name}-{derive_seed(work.run.path.resolve())}", "resume": "allow"}}
            work.accelerator.init_trackers("editr1", work.recipe.model_dump(mode="json"), init_kwargs=again)
            stack.callback(work.accelerator.end_training)

    def write(self, step: int, row: Row) -> None:
        """A row of metrics."""
        if self._file is None:
            return
        self._file.write(step, **row)
        if self._work.recipe.tracker != "none":
            self._work.accelerator.log({k: v for k, v in row.items() if isinstance(v, float | int)}, step=step)
        if self._report is not None:
            self._report({"step": step, "steps": self._work.recipe.steps, **row})

    def pictures(self, step: int, shown: Sequence[Shown]) -> None:
        """Edits of an evaluation."""
        if self._file is not None:
            self._pictures.keep(step, shown)
