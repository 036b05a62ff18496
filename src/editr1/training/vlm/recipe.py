"""Settings of the embedded models' training, without torch: what TOML recipes are checked against."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from editr1.config import Recipe


class VlmRecipe(Recipe):
    """Training of an embedded vision-language model.

    Attributes:
        name: of the model, and of its folder.
        examples: mixture to learn: "describe" makes a base model, "verify" a verifier.
        decision_weight: of the 0/1 of each check in the loss; all other tokens of an answer weigh 1.
        size: of a fresh model; None with a parent.
        parent: name of a shipped model, or a folder, to go on from; None for fresh weights.
        split: whose examples are learnt from; evaluation uses others.
        steps, batch_size: optimisation steps, and sequences in each.
        learning_rate: peak of a schedule that warms up linearly over `warmup` steps and falls as a cosine to a tenth.
        seed: of the fresh weights.
        workers: processes that make examples.
        save_every: steps between checkpoints.
        device: "cpu", "cuda", or "auto".
        compile: fuse the blocks with torch.compile first; needs a C++ compiler on CPUs, and a minute.
    """

    name: str
    examples: Literal["describe", "verify"]
    size: Literal["small", "large"] | None = None
    parent: str | None = None
    split: str = "train"
    steps: PositiveInt = 2000
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1.5e-3
    warmup: NonNegativeInt = 100
    weight_decay: NonNegativeFloat = 0.05
    decision_weight: PositiveFloat = 1.0
    seed: int = 0
    workers: NonNegativeInt = 1
    save_every: PositiveInt = 250
    device: str = "auto"
    compile: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> VlmRecipe:
        if (self.size is None) == (self.parent is None):
            raise ValueError("give either size, for fresh weights, or parent, to go on from a model")
        return self
