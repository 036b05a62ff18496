"""Before an editor's run: processes, run directory, editor, weights, contexts, rewards; all that the loop works on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from editr1.editors.build import build_editor
from editr1.editors.cache import ContextCache
from editr1.editors.pipeline import PipelineEditor
from editr1.errors import ConfigError, MissingExtraError
from editr1.rewards.background import BackgroundScorer
from editr1.rewards.base import Reward
from editr1.rewards.config import RewardConfig
from editr1.rewards.guard import FailureGuard
from editr1.rundir import RunDir
from editr1.training.editor.algorithm import Algorithm
from editr1.training.editor.contexts import Contexts, derive_seed, open_contexts, usable
from editr1.training.editor.evaluate import Evaluation
from editr1.training.editor.grpo import FlowGrpo
from editr1.training.editor.nft import Nft
from editr1.training.editor.policy import EMA, Policy
from editr1.training.editor.recipe import EditorRecipe
from editr1.training.editor.rollouts import Gather, Scoring
from editr1.training.editor.state import Checkpoints
from editr1.training.editor.update import Learner

try:
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs, gather_object
except ImportError as exc:
    raise MissingExtraError("training", "train") from exc

ALGORITHMS: dict[str, Callable[[EditorRecipe, int], Algorithm]] = {"flow-grpo": FlowGrpo, "nft": Nft}
"""By the recipe's `algorithm`. A further one is a file with an `Algorithm`, a table in the recipe, and a line here."""

MAY_CHANGE = {"steps", "save_every", "keep", "tracker", "failures", "max_skipped", "micro_batch_size", "context_cache"}
"""Settings that a resumed run may have otherwise than when it began: what is learnt stays the same, up to rounding."""

_ON_THE_WAY = {"url", "token_env", "concurrency", "items_per_request", "timeout"}
_TO_THE_JUDGE = {"base_url", "api_key_env", "concurrency", "timeout", "cache_dir", "device"}
"""Of a reward, and of its judge: how it is reached. A service may come back at another address."""

_WAIT = timedelta(hours=2)
"""That processes wait for one another: one may score, or write a model, while the others wait."""


@dataclass(frozen=True, slots=True)
class Work:
    """All that one run is about."""

    recipe: EditorRecipe
    run: RunDir
    accelerator: Any
    editor: PipelineEditor
    kept_dtype: torch.dtype
    contexts: Contexts
    cache: ContextCache
    algorithm: Algorithm
    policy: Policy
    learner: Learner
    checkpoints: Checkpoints
    scorer: BackgroundScorer
    guard: FailureGuard
    evaluation: Evaluation | None
    gather: Gather
    steps: int
    overlap: bool

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def slots(self) -> range:
        """Of the contexts of an iteration, those of this process: whole groups, evenly shared."""
        each = self.recipe.contexts_per_step // self.accelerator.num_processes
        return range(self.accelerator.process_index * each, (self.accelerator.process_index + 1) * each)

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the rewards that are only looked at."""
        return watched(self.recipe)

    def scoring(self) -> Scoring:
        """A fresh one."""
        return Scoring(self.scorer, overlap=self.overlap)


def prepare(recipe: EditorRecipe, folder: Path, make_reward: Callable[[], Reward]) -> Work:
    """Everything up to the first iteration; nothing is restored yet.

    Raises:
        ConfigError, DataError, ModelError, RewardError: if the recipe cannot be run here.
    """
    accelerator = _processes(recipe, folder)
    run = _open_run(recipe, folder, accelerator)
    torch.manual_seed(derive_seed(recipe.seed, "process", accelerator.process_index))
    contexts = open_contexts(recipe.contexts)
    held_out = open_contexts(recipe.eval.contexts) if recipe.eval is not None and recipe.eval.every else None
    reward = make_reward()
    editor = _editor(recipe, accelerator)
    kept_dtype = editor.pipeline.transformer.dtype
    steps = recipe.sampling.steps or editor.steps
    algorithm = ALGORITHMS[recipe.algorithm](recipe, steps)
    cache = _encode(recipe, run, editor, [c for c in (contexts, held_out) if c is not None], accelerator)
    copies = {*algorithm.frozen, algorithm.sampled_by} | ({EMA} if recipe.ema else set())
    policy = Policy(editor, recipe, copies)
    optimizer = torch.optim.AdamW(
        list(policy.parameters.values()), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    overlap = _overlaps(recipe) if recipe.sampling.overlap is None else recipe.sampling.overlap
    scorer = BackgroundScorer(reward, retries=recipe.failures.retries)
    evaluation = None
    if recipe.eval is not None and held_out is not None:
        evaluation = Evaluation(
            recipe=recipe.eval,
            editor=editor,
            cache=cache,
            contexts=held_out,
            scoring=lambda: Scoring(scorer, overlap=overlap),
            gather=gather_object,
            watched=watched(recipe),
            seed=recipe.seed,
            steps=recipe.eval.steps or editor.steps,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
            even=recipe.shard,
        )
    main = accelerator.is_main_process
    return Work(
        recipe=recipe,
        run=run,
        accelerator=accelerator,
        editor=editor,
        kept_dtype=kept_dtype,
        contexts=contexts,
        cache=cache,
        algorithm=algorithm,
        policy=policy,
        learner=Learner(recipe, editor, policy, algorithm, optimizer, gather_object, accelerator.num_processes),
        checkpoints=Checkpoints(run, policy, optimizer, gather_object, main=main, keep=recipe.keep),
        scorer=scorer,
        guard=FailureGuard(recipe.failures.max_share, recipe.failures.window),
        evaluation=evaluation,
        gather=gather_object,
        steps=steps,
        overlap=overlap,
    )


def watched(recipe: EditorRecipe) -> tuple[str, ...]:
    """Names of the rewards that are only looked at."""
    return tuple(name for name, reward in recipe.rewards.items() if reward.watch)


def _processes(recipe: EditorRecipe, folder: Path) -> Any:
    """Joins the other processes of the launch.

    Raises:
        ConfigError: if the launch does not go with the recipe.
    """
    on = {name: os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true" for name in ("DEEPSPEED", "FSDP")}
    if on["DEEPSPEED"]:
        raise ConfigError(
            "weights of an editor are sharded by FSDP2, not by DeepSpeed: launch with --multi_gpu, and for full "
            "training set shard = true"
        )
    if on["FSDP"] and not recipe.shard:
        raise ConfigError(
            "the launch shards weights and the recipe does not: launch with --multi_gpu, or set shard = true"
        )
    if recipe.tracker != "none" and find_spec(recipe.tracker) is None:
        raise ConfigError(
            f"the tracker {recipe.tracker!r} is not installed: uv pip install {recipe.tracker}, or set tracker=none"
        )
    accelerator = Accelerator(
        cpu=recipe.device == "cpu" or not torch.cuda.is_available(),
        log_with=None if recipe.tracker == "none" else recipe.tracker,
        project_dir=str(folder),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_WAIT)],
    )
    if recipe.contexts_per_step % accelerator.num_processes:
        raise ConfigError(
            f"{recipe.contexts_per_step} groups of an iteration cannot be shared evenly by {accelerator.num_processes} "
            f"processes: make contexts_per_step a multiple of {accelerator.num_processes}"
        )
    if recipe.shard and accelerator.num_processes == 1:
        raise ConfigError("shard = true in a single process: launch several, or leave it out")
    return accelerator


def _open_run(recipe: EditorRecipe, folder: Path, accelerator: Any) -> RunDir:
    """The run directory, made by the first process.

    Raises:
        ConfigError: if another run is there.
    """
    now = recipe.model_dump(mode="json")
    if (folder / "config.json").is_file():
        before = RunDir.open(folder).config
        kept, asked = _what_is_learnt(before), _what_is_learnt(now)
        changed = [key for key in asked if kept.get(key, asked[key]) != asked[key]]
        if changed:
            name, old, new = _first_difference(changed[0], kept[changed[0]], asked[changed[0]])
            raise ConfigError(f"{folder} holds a run with {name} = {old!r}, not {new!r}: choose another one with --out")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        RunDir.create(folder, now, seeds={"all": recipe.seed}, resume=True)
    accelerator.wait_for_everyone()
    return RunDir(folder)


def _what_is_learnt(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a resumed run must have as it began."""
    kept = {key: value for key, value in settings.items() if key not in MAY_CHANGE}
    rewards = {}
    for name, reward in (settings.get("rewards") or {}).items():
        score = dict(reward.get("score") or {})
        score["judge"] = {k: v for k, v in (score.get("judge") or {}).items() if k not in _TO_THE_JUDGE}
        rewards[name] = {k: v for k, v in reward.items() if k not in _ON_THE_WAY} | {"score": score}
    return kept | {"rewards": rewards}


def _first_difference(name: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """The innermost setting that differs, by its dotted name."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(k for k in old if k not in new)]:
            if old.get(key) != new.get(key):
                return _first_difference(f"{name}.{key}", old.get(key), new.get(key))
    return name, old, new


def _editor(recipe: EditorRecipe, accelerator: Any) -> PipelineEditor:
    on_gpu = accelerator.device.type == "cuda"
    dtype = "bfloat16" if on_gpu and recipe.precision == "bf16" else "float32"
    editor = build_editor(
        recipe.editor, options=recipe.options, dtype=dtype, device=str(accelerator.device), revision=recipe.revision
    )
    editor.autocast = torch.bfloat16 if recipe.precision == "bf16" else None
    return editor


def _encode(
    recipe: EditorRecipe, run: RunDir, editor: PipelineEditor, sets: list[Contexts], accelerator: Any
) -> ContextCache:
    """The cache of contexts; filled beforehand, by all processes together, if the text encoders are to go."""
    folder = recipe.context_cache
    if recipe.encoders == "release":
        folder = folder or str(run.path / "contexts")
    cache = ContextCache(editor, folder)
    if recipe.encoders == "release":
        for contexts in sets:
            for position in range(accelerator.process_index, len(contexts), accelerator.num_processes):
                cache.get([usable(contexts, position)])
        accelerator.wait_for_everyone()
        if recipe.train == "full" and accelerator.is_main_process:
            editor.move_encoders("cpu")  # the finished pipeline is written with them
        else:
            editor.release_encoders()
    return cache


def _overlaps(recipe: EditorRecipe) -> bool:
    """Not where sampling and scoring would fight for the same cores: two torch programs at once slow each other."""
    on_gpu = recipe.device == "auto" and torch.cuda.is_available()
    return on_gpu or not any(_is_local_model(reward) for reward in recipe.rewards.values())


def _is_local_model(reward: RewardConfig) -> bool:
    return reward.kind == "verifier" and reward.score.judge.resolved_kind != "openai"
