"""Settings of editor RL, stage 3: what TOML recipes and command lines are checked against."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from editr1.config import Recipe
from editr1.editors.base import EditorOptions
from editr1.rewards.config import RewardConfig
from editr1.types import EditKind

Share = Annotated[float, Field(ge=0, le=1)]


class ContextsRecipe(Recipe):
    """Contexts: drawn stickers, or rows of a file.

    Attributes:
        stickers: name of a draw of the embedded domain, such as "editor"; draws of other names have other sources.
        path: of a data set instead; a JSONL of tasks may hold principles and kinds.
        format: of the file or folder at `path`: "tasks" is JSONL as `editr1 edit` reads it, the others are those of
            `editr1.datasets.contexts`.
        first: rows or tasks before this one are left out: two tables can share one data set.
        count: rows or tasks from there on; None takes all of a data set.
        kinds: of sticker edits, taking turns; None takes all eleven.
    """

    stickers: str | None = None
    path: str | None = None
    format: Literal["tasks", "table", "folder", "imgedit", "editreward-data"] = "table"
    first: NonNegativeInt = 0
    count: PositiveInt | None = None
    kinds: tuple[EditKind, ...] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> ContextsRecipe:
        if (self.stickers is None) == (self.path is None):
            raise ValueError("give either stickers, the name of a draw, or path, a data set")
        if self.stickers is not None and self.count is None:
            raise ValueError("a draw of stickers has no end: give its count")
        if self.path is not None and self.kinds is not None:
            raise ValueError("kinds chooses among drawn stickers only: filter the data set beforehand")
        return self

    def overlaps(self, other: ContextsRecipe) -> bool:
        """Whether some context is in both."""
        if (self.stickers, self.path, self.kinds) != (other.stickers, other.path, other.kinds):
            return False
        ends = [float("inf") if c.count is None else c.first + c.count for c in (self, other)]
        return self.first < ends[1] and other.first < ends[0]


class SamplingRecipe(Recipe):
    """Rollouts.

    Attributes:
        steps: of the sampler; None is the editor's own number. Fewer than in evaluation are usual: 6 or 10.
        batch_size: pictures of a group that are made together.
        overlap: score a group while the next one is sampled. None does so unless both would share the CPU's cores.
    """

    steps: PositiveInt | None = None
    batch_size: PositiveInt = 24
    overlap: bool | None = None


class WindowRecipe(Recipe):
    """Which steps of a rollout are stochastic and trained; see `editr1.objectives.windows`.

    Attributes:
        kind: "all" but the last, "fixed", "sliding" (MixGRPO) or "random" (Flow-GRPO-Fast), one for each iteration.
        size: steps in it; for all kinds but "all".
        start: first step of a fixed one.
        every, stride: iterations between two moves of a sliding one, and steps of a move.
        low, high: range that a random one lies in, `high` exclusive; None is all but the last step.
    """

    kind: Literal["all", "fixed", "sliding", "random"] = "all"
    size: PositiveInt | None = None
    start: NonNegativeInt = 0
    every: PositiveInt = 1
    stride: PositiveInt = 1
    low: NonNegativeInt = 0
    high: PositiveInt | None = None

    @model_validator(mode="after")
    def _sized(self) -> WindowRecipe:
        if (self.kind == "all") != (self.size is None):
            wrong = "needs a size" if self.size is None else "has no size"
            raise ValueError(f"a window of kind {self.kind!r} {wrong}")
        own = {"all": (), "fixed": ("start",), "sliding": ("every", "stride"), "random": ("low", "high")}[self.kind]
        if idle := set(self.model_dump(exclude_defaults=True)) - {"kind", "size", *own}:
            raise ValueError(f"a window of kind {self.kind!r} has no {', '.join(sorted(idle))}")
        return self


class FlowGrpoRecipe(Recipe):
    """Flow-GRPO: the clipped surrogate over stochastic steps of the sampler.

    Attributes:
        noise_level: eta of the stochastic steps.
        step: their kind, "sde" or "cps"; see `editr1.objectives.flow_sde`.
        window: which they are.
        clip: how far the ratio of a step may leave 1. A step's log-probability is a mean over the elements of a latent,
            so useful ranges are small.
        kl: beta, weight of the KL to the reference policy; 0 does not compute it.
        kl_form: "flow_grpo" lacks the |dt| that the exact KL divides by; the paper's 0.04 goes with it.
        guard: normalised ratios and gradients (GRPO-Guard); clip ranges are then about 1e-6.
    """

    noise_level: PositiveFloat = 0.9
    step: Literal["sde", "cps"] = "sde"
    window: WindowRecipe = WindowRecipe()
    clip: PositiveFloat = 1e-4
    kl: NonNegativeFloat = 0.0
    kl_form: Literal["flow_grpo", "exact"] = "flow_grpo"
    guard: bool = False

    @model_validator(mode="after")
    def _noise_fits(self) -> FlowGrpoRecipe:
        if self.step == "cps" and self.noise_level > 1:
            raise ValueError(f"noise_level is {self.noise_level}: cps takes at most 1")
        return self


class NftRecipe(Recipe):
    """DiffusionNFT: reinforcement on the forward process.

    Attributes:
        beta: how much of the change the implicit policies have; less asks for more.
        clamp: the advantage at which a picture counts as surely good.
        weighting: "x0" weighs each picture's loss by its own error, in the space of pictures.
        draws: times that a picture is noised anew and learnt from, each at another step of the sampler's schedule.
        old_rate, old_most: the policy that samples follows the trained one as a moving average, whose decay is
            `old_rate` times the iteration, at most `old_most`. At 0 it is the trained one at each iteration's start.
        kl: weight of the mean squared difference to the reference's velocity; 0 does not compute it.
    """

    beta: PositiveFloat = 1.0
    clamp: PositiveFloat = 5.0
    weighting: Literal["none", "x0"] = "x0"
    draws: PositiveInt = 3
    old_rate: NonNegativeFloat = 0.0
    old_most: Annotated[float, Field(ge=0, lt=1)] = 0.5
    kl: NonNegativeFloat = 0.0


class AdvantageRecipe(Recipe):
    """Rewards relative to their group.

    Attributes:
        scale: what differences from the group's mean are divided by: its deviation ("std", the paper's), that of the
            whole batch ("global_std"), or nothing ("none").
        clamp: bound on their size.
    """

    scale: Literal["std", "global_std", "none"] = "std"
    clamp: PositiveFloat | None = 5.0


class EditorLora(Recipe):
    """A LoRA on the transformer.

    Attributes:
        rank, alpha: its output is scaled by alpha / rank.
        targets: last parts of the names of linear layers, e.g. ["attn.to_q", "attn.to_v"]; None takes the editor's own
            choice: attention and MLPs of all blocks.
    """

    rank: PositiveInt = 64
    alpha: PositiveFloat = 128.0
    targets: tuple[str, ...] | None = None


class EmaRecipe(Recipe):
    """A moving average of the trained weights, which is then what is evaluated and exported.

    Attributes:
        decay: of the average; lower in the first updates.
        every: iterations between two of its updates.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9
    every: PositiveInt = 8


class EditorEvalRecipe(Recipe):
    """Held-out contexts, edited with the ODE and fixed seeds, and scored by the same rewards.

    Attributes:
        contexts: which.
        every: iterations between two evaluations; one comes before the first iteration and one after the last, too. 0
            for none.
        steps: of the sampler; None is the editor's own number.
        seeds: pictures of each context.
        batch_size: pictures made together.
        pictures: contexts whose pictures are kept beside those from before training.
    """

    contexts: ContextsRecipe
    every: NonNegativeInt = 20
    steps: PositiveInt | None = None
    seeds: PositiveInt = 1
    batch_size: PositiveInt = 16
    pictures: NonNegativeInt = 8


class FailuresRecipe(Recipe):
    """When scoring fails.

    Attributes:
        retries: times that a failed sample is asked for again, beyond what a judge's client does itself.
        max_share: of failures among the last `window` samples, above which the run stops.
        window: samples looked back on.
    """

    retries: NonNegativeInt = 1
    max_share: Share = 0.25
    window: PositiveInt = 64


class EditorRecipe(Recipe):
    """RL of an editor with a verifier's scores (sections 3.3 and 4.3 of the paper).

    Attributes:
        name: of the run.
        editor: name of a shipped one, folder of a pipeline of diffusers, or hub id.
        revision: of a hub id.
        options: how the editor is used, see `editr1.editors.EditorOptions`.
        contexts: what is learnt on.
        rewards: by name; see `editr1.rewards.config`. One with `watch = true` is looked at and never learnt from.
        algorithm: "flow-grpo" (the paper's) or "nft" (DiffusionNFT).
        grpo, nft: settings of the one that is chosen.
        group_size: G, pictures of a context.
        contexts_per_step: groups of an iteration, over all processes.
        updates: optimisation steps of an iteration; each learns from its share of every group. Above 1 they grow
            off-policy.
        steps: iterations.
        sampling, advantages: see there.
        train: "lora" or "full".
        lora: of which kind.
        learning_rate, warmup, weight_decay, max_grad_norm: of AdamW; constant after `warmup` iterations.
        precision: "bf16" computes under bfloat16 autocast, in rollouts and training alike; trained weights and the
            optimizer are float32 either way. On a GPU, weights that a LoRA leaves alone are bfloat16 under "bf16".
        gradient_checkpointing: less memory for about a third more computing.
        micro_batch_size: pictures at one step in one forward and backward pass.
        shard: split weights and optimizer over all processes (FSDP2); with full training only.
        ema: a moving average, if wanted.
        encoders: text encoders "stay", or are let go of ("release") when all contexts are encoded, which happens first.
        context_cache: folder of encoded contexts; needed by no setting, and useful over several runs.
        eval: evaluation on held-out contexts, if wanted.
        failures: of scoring.
        max_skipped: iterations in a row without a finite gradient after which the run stops.
        save_every: iterations between checkpoints.
        keep: newest checkpoints that stay, beside that of the best evaluation.
        tracker: also log there; its package has to be installed.
        seed: of everything that is drawn.
        device: "auto" takes the GPU if there is one.
    """

    name: str
    editor: str
    revision: str | None = None
    options: EditorOptions = EditorOptions()
    contexts: ContextsRecipe
    rewards: dict[str, RewardConfig]
    algorithm: Literal["flow-grpo", "nft"] = "flow-grpo"
    grpo: FlowGrpoRecipe = FlowGrpoRecipe()
    nft: NftRecipe = NftRecipe()
    group_size: PositiveInt = 24
    contexts_per_step: PositiveInt = 8
    updates: PositiveInt = 1
    steps: PositiveInt = 300
    sampling: SamplingRecipe = SamplingRecipe()
    advantages: AdvantageRecipe = AdvantageRecipe()
    train: Literal["lora", "full"] = "lora"
    lora: EditorLora = EditorLora()
    learning_rate: PositiveFloat = 3e-4
    warmup: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 1e-4
    max_grad_norm: PositiveFloat = 1.0
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    micro_batch_size: PositiveInt = 8
    shard: bool = False
    ema: EmaRecipe | None = None
    encoders: Literal["stay", "release"] = "stay"
    context_cache: str | None = None
    eval: EditorEvalRecipe | None = None
    failures: FailuresRecipe = FailuresRecipe()
    max_skipped: PositiveInt = 5
    save_every: PositiveInt = 20
    keep: PositiveInt = 2
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"

    @field_validator("precision", mode="before")
    @classmethod
    def _no_half(cls, value: Any) -> Any:
        if value in ("fp16", "float16", "half"):
            raise ValueError("fp16 overflows in these models and needs loss scaling: use bf16, or fp32")
        return value

    @model_validator(mode="after")
    def _sound(self) -> EditorRecipe:
        for fault in _faults(self):
            raise ValueError(fault)
        return self


def _faults(recipe: EditorRecipe) -> list[str]:
    """What cannot work, one sentence each."""
    faults = []
    if recipe.group_size < 2:
        faults.append("group_size is 1: pictures are rewarded for being better than others of a group; take 2 or more")
    if recipe.group_size % recipe.updates:
        faults.append(f"updates is {recipe.updates}: it must divide group_size = {recipe.group_size}")
    other = "nft" if recipe.algorithm == "flow-grpo" else "grpo"
    said = recipe.model_dump(exclude_defaults=True)  # a run's config.json, given as a recipe, names the defaults too
    if other in said:
        faults.append(f"the table [{other}] has no say under algorithm = {recipe.algorithm!r}: leave it out")
    if recipe.train == "full" and "lora" in said:
        faults.append('the table [lora] has no say under train = "full": leave it out')
    if recipe.shard and recipe.train == "lora":
        faults.append(
            'shard goes with train = "full" only: the base of a LoRA fits on each GPU, launch with --multi_gpu'
        )
    faults += _window_faults(recipe) + _reward_faults(recipe)
    if recipe.eval is not None and recipe.contexts.overlaps(recipe.eval.contexts):
        faults.append("contexts and eval.contexts overlap: move one of them with first, or name another draw")
    return faults


def _window_faults(recipe: EditorRecipe) -> list[str]:
    steps, window = recipe.sampling.steps, recipe.grpo.window
    if recipe.algorithm != "flow-grpo" or steps is None:
        return []
    if steps < 2:
        return ["sampling.steps is 1: its last step is never stochastic, so that flow-grpo has none to learn from"]
    end = (window.size or 1) + (window.start if window.kind == "fixed" else window.low)
    if end > steps - 1 or (window.high or 0) > steps - 1:
        return [
            f"the window does not fit {steps} sampling steps: it may reach to step {steps - 2} (from 0), for noise of "
            "the last step would stay in the picture"
        ]
    return []


def _reward_faults(recipe: EditorRecipe) -> list[str]:
    faults = []
    if all(reward.watch for reward in recipe.rewards.values()):
        names = ", ".join(recipe.rewards) or "none given"
        faults.append(f"no reward is learnt from ({names}): add a table [rewards.NAME] without watch = true")
    sets = {"contexts": recipe.contexts} | ({} if recipe.eval is None else {"eval.contexts": recipe.eval.contexts})
    others = [name for name, chosen in sets.items() if chosen.stickers is None]
    for name, reward in recipe.rewards.items():
        if others and (reward.kind == "oracle" or reward.stickers):
            faults.append(
                f"rewards.{name} knows the truth of drawn stickers only, and {others[0]} are others: use a verifier"
            )
    return faults
