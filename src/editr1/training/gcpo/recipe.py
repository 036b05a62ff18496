"""Settings of GCPO, stage 2, without torch: what TOML recipes and command lines are checked against."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from editr1.config import Recipe
from editr1.stickers import People

OWNED = {
    "beta": "beta",
    "do_eval": "heldout_pairs and eval_every",
    "epsilon": "clip",
    "epsilon_high": "clip_high",
    "eval_steps": "eval_every",
    "eval_strategy": "heldout_pairs and eval_every",
    "generation_batch_size": "pairs_per_step and updates_per_rollout",
    "gradient_accumulation_steps": "pairs_per_step and halves_per_pass",
    "gradient_checkpointing": "gradient_checkpointing",
    "learning_rate": "learning_rate",
    "logging_steps": "log_every",
    "loss_type": "loss_type",
    "lr_scheduler_type": "schedule",
    "max_completion_length": "max_tokens",
    "max_steps": "steps",
    "num_generations": "rollouts",
    "num_iterations": "iterations",
    "num_train_epochs": "steps",
    "output_dir": "--out",
    "per_device_train_batch_size": "halves_per_pass",
    "save_steps": "save_every",
    "save_total_limit": "keep_checkpoints",
    "seed": "seed",
    "steps_per_generation": "updates_per_rollout",
    "temperature": "temperature",
    "top_p": "top_p",
    "use_cpu": "device",
    "warmup_steps": "warmup",
}
"""Settings of TRL that have a name of ours in the recipe: they are set there, and refused in `[trl]`."""


class Stickers(Recipe):
    """Simulated preference pairs on stickers, made at the start of a run.

    Attributes:
        train: pairs to learn from, those marked "same" included; `heldout`: to measure on.
        split, heldout_split: names of the draws. Their sources differ, so that no source is in both.
        people: who compares: "plain" have the oracle's taste, "exacting" mind unasked changes
            more and technical flaws less.
    """

    train: PositiveInt = 2000
    heldout: PositiveInt = 400
    split: str = "gcpo"
    heldout_split: str = "gcpo-heldout"
    people: People = "plain"


class Lora(Recipe):
    """A LoRA adapter instead of all weights.

    Attributes:
        rank, alpha, dropout: as in peft.
        targets: names of the layers, or "all-linear"; the output layer cannot be among them.
    """

    rank: PositiveInt = 64
    alpha: PositiveFloat = 128.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | list[str] = "all-linear"


class GcpoRecipe(Recipe):
    """GCPO: a fine-tuned verifier is reinforced on human preferences (section 3 of the paper).

    Attributes:
        name: of the run.
        parent: the verifier to start from: a shipped model's name, a folder, or a hub id.
        pairs: folder of `editr1 preferences`, with train.parquet and heldout.parquet; or
        stickers: simulated pairs instead.
        template: prompt template; None takes the parent's own.
        max_pixels: larger pictures are scaled down to this area.
        rollouts: N, traces drawn for each half of a pair.
        pairs_per_step: pairs of an optimisation step, over all processes.
        halves_per_pass: groups of N rollouts that go through the model together, in each process.
        updates_per_rollout: optimisation steps that one set of rollouts is cut into; above 1 they grow off-policy.
        iterations: how often each rollout is learnt from.
        steps: of optimisation.
        learning_rate, schedule, warmup, weight_decay: of AdamW. Values for full models are about 1e-6, for LoRA 1e-5.
        clip, clip_high: how far the likelihood ratio may fall below and rise above 1; `clip_high` None is `clip`.
        beta: weight of the KL to the parent; 0, the paper's choice, needs no second model.
        loss_type: of TRL; "grpo" is the paper's: a mean over each rollout's tokens, then over rollouts.
        max_tokens, temperature, top_p: of rollouts. max_tokens None takes the parent's own limit.
        engine: "fast" is the shared-prefix engine, for Qwen2.5-VL in this process; "generate" is TRL's own path;
            "auto" is fast where it can be; "vllm-server" and "vllm-colocate" are TRL's, with a check of every prompt.
        share_prefix: encode what the rollouts of a group have in common once in the training forward too.
        about: a paragraph for the model card, e.g. where the pairs come from and under which licence.
        lora: None trains all weights.
        train_vision: False leaves the vision tower as it is; not with LoRA, whose `targets` say what is trained.
        weights: precision that weights are held in. None: float32 for all that is trained in full (updates of 1e-6 get
            lost in bfloat16), the checkpoint's own under LoRA on a GPU.
        precision: of the arithmetic; None is bfloat16 on GPUs, float32 on CPUs.
        gradient_checkpointing: recompute activations: less memory, about a third more time.
        device: "auto" or "cpu".
        seed: of order, rollouts and adapters.
        log_every, save_every, eval_every, sample_every: steps between rows of metrics, checkpoints, measurements on
            held-out pairs (0: none), and kept rollouts (0: none).
        heldout_pairs: how many are measured on, those marked "same" left out; 0 for none.
        samples: held-out pairs whose verdicts before and after go into the report.
        keep_checkpoints: older ones are deleted; None keeps all.
        max_skipped: steps in a row with a gradient that is not finite after which the run stops.
        trl: any further setting of TRL's GRPOConfig, by its name there.
    """

    name: str
    parent: str
    pairs: str | None = None
    stickers: Stickers | None = None
    template: str | None = None
    max_pixels: PositiveInt | None = None
    rollouts: Annotated[int, Field(ge=2)] = 8
    pairs_per_step: PositiveInt = 8
    halves_per_pass: PositiveInt = 2
    updates_per_rollout: PositiveInt = 1
    iterations: PositiveInt = 1
    steps: PositiveInt = 100
    learning_rate: PositiveFloat = 1e-6
    schedule: Literal["constant_with_warmup", "cosine", "linear"] = "constant_with_warmup"
    warmup: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.0
    clip: PositiveFloat = 0.2
    clip_high: PositiveFloat | None = None
    beta: NonNegativeFloat = 0.0
    loss_type: str = "grpo"
    max_tokens: PositiveInt | None = None
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    engine: Literal["auto", "fast", "generate", "vllm-server", "vllm-colocate"] = "auto"
    share_prefix: bool = True
    about: str | None = None
    lora: Lora | None = None
    train_vision: bool = True
    weights: Literal["float32", "bfloat16"] | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    gradient_checkpointing: bool = False
    device: Literal["auto", "cpu"] = "auto"
    seed: int = 0
    log_every: PositiveInt = 1
    save_every: PositiveInt = 20
    eval_every: NonNegativeInt = 20
    sample_every: NonNegativeInt = 20
    heldout_pairs: NonNegativeInt = 200
    samples: NonNegativeInt = 4
    keep_checkpoints: PositiveInt | None = 2
    max_skipped: PositiveInt = 5
    trl: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_sound(self) -> GcpoRecipe:
        if (self.pairs is None) == (self.stickers is None):
            raise ValueError("give either pairs, a folder of preferences, or stickers, for simulated ones")
        if 2 * self.pairs_per_step % self.halves_per_pass:
            raise ValueError(
                f"halves_per_pass is {self.halves_per_pass}: it must divide the {2 * self.pairs_per_step} halves of "
                f"pairs_per_step = {self.pairs_per_step}"
            )
        if self.lora is not None and not self.train_vision:
            raise ValueError("train_vision goes with training in full: name the adapters' layers with lora.targets")
        serves = self.updates_per_rollout * self.iterations
        if self.save_every % serves:
            raise ValueError(
                f"save_every is {self.save_every}: it must be a multiple of the {serves} steps that a set of rollouts "
                "serves, so that a resumed run need not draw them again"
            )
        for key in self.trl:
            if key in OWNED:
                raise ValueError(f"trl.{key} has a place of its own in the recipe: set {OWNED[key]}")
        return self
