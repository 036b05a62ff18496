"""Settings of the pretraining of an embedded editor, without torch: what TOML recipes are checked against."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from editr1.config import Recipe
from editr1.types import EditKind

FAULTS = {
    "nothing_happened": 5.0,
    "wrong_value": 3.0,
    "half_done": 3.0,
    "wrong_object": 3.0,
    "leak": 1.5,
    "backdrop_shifts": 1.0,
    "backdrop_drifts": 1.0,
    "something_vanishes": 1.0,
    "something_moves": 0.5,
    "tone_drifts": 0.5,
    "oversaturation": 0.5,
}
"""How the mistakes in the data are weighted: modes that a policy can turn away from, not noise that it cannot help."""

KINDS = {EditKind.REPLACE: 2.5, EditKind.ADD: 1.5, EditKind.MOTION: 1.5, EditKind.PORTRAIT: 1.3, EditKind.COLOR: 1.3}
"""How the kinds of edits are weighted, those that a small editor learns slowly more; kinds not named have 1."""


class VaeRecipe(Recipe):
    """Training of the autoencoder, on pictures before and after edits.

    Attributes:
        steps, batch_size: optimisation steps, and pictures in each.
        learning_rate: peak of a linear warm-up over `warmup` steps and a cosine to a tenth.
        optimizer: "muon" for all kernels and matrices, with AdamW for the rest, or "adamw" for everything.
        kl: weight of the divergence of a picture's latents from the unit Gaussian, summed over its latents, beside the
            mean absolute error of pixels in [-1, 1].
        edge: weight of the mean absolute error of the differences between neighbouring pixels.
        components: weight of the mean squared distance of the latents from the coefficients of the principal
            components of squares of pixels, whose mean square is 1 (`editr1.training.pretrain.components`).
        measured: held-out pictures on which the finished autoencoder is measured.
    """

    steps: PositiveInt = 2400
    batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 5e-3
    warmup: NonNegativeInt = 50
    optimizer: Literal["adamw", "muon"] = "muon"
    kl: NonNegativeFloat = 1e-7
    edge: NonNegativeFloat = 0.5
    components: NonNegativeFloat = 0.25
    measured: PositiveInt = 256


class EditsRecipe(Recipe):
    """The edits that are learnt from, drawn by `editr1.stickers`, right and faulty.

    Attributes:
        split: whose tasks are drawn; those of the evaluation are others.
        number: of edits, encoded before the training.
        per_task: edits of one task; its source is encoded once.
        right: share of right edits.
        faults: relative frequency of each fault among the others, by its name in `editr1.stickers.faults`. A fault that
            does not apply to a task gives way to another.
        kinds: relative frequency of each kind of edit; those not named have 1.
        shard: tasks in a file.
    """

    split: str = "train"
    number: PositiveInt = 49152
    per_task: PositiveInt = 1
    right: Annotated[float, Field(ge=0, le=1)] = 0.6
    faults: dict[str, NonNegativeFloat] = FAULTS
    kinds: dict[EditKind, NonNegativeFloat] = KINDS
    shard: PositiveInt = 1024

    @model_validator(mode="after")
    def _possible(self) -> EditsRecipe:
        from editr1.stickers.faults import FAULTS as known

        unknown = sorted(set(self.faults) - set(known))
        if unknown:
            raise ValueError(f"there is no fault {unknown[0]!r}: choose among {', '.join(known)}")
        if self.right < 1 and not self.faults.get("nothing_happened"):
            raise ValueError(
                "faults gives nothing_happened no weight, but it is the one that applies to every task: give it some, "
                "or set right to 1"
            )
        if not any(self.kinds.get(kind, 1.0) for kind in EditKind):
            raise ValueError("kinds gives every kind the weight 0: leave at least one above")
        return self

    @property
    def tasks(self) -> int:
        """How many tasks are drawn."""
        return -(-self.number // self.per_task)


class TextRecipe(Recipe):
    """Training of the text encoders alone: to tell what instructions ask for.

    Attributes:
        steps, batch_size: optimisation steps, and instructions in each; no steps leave the encoders to the flow alone.
        learning_rate: peak of a linear warm-up over `warmup` steps and a cosine to a tenth.
        weight_decay: of matrices.
    """

    steps: NonNegativeInt = 1200
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 2e-3
    warmup: NonNegativeInt = 100
    weight_decay: NonNegativeFloat = 0.01


class FlowRecipe(Recipe):
    """Training of transformer and text encoders by flow matching.

    Attributes:
        steps, batch_size: optimisation steps, and edits in each.
        right_first: steps at the beginning that take right edits alone, whose targets agree; faults come in afterwards.
        learning_rate: peak of a linear warm-up over `warmup` steps and a cosine to a tenth.
        text_rate: the text encoders' learning rate as a share of it; 0 leaves them as they are.
        optimizer: "adamw"; or "muon" for the matrices inside the models, and AdamW for the rest.
        weight_decay: of matrices.
        max_grad_norm: of all gradients together.
        ema: decay of the average of the weights that is shipped; it starts lower and rises with the steps.
        focus: weight of the tokens that a right edit of the task changes, the others having 1. It depends on the task
            alone and not on what was drawn, so the velocity that is learnt is the same.
        sigma_mean, sigma_std: of the normal whose logistic, shifted as the scheduler shifts, is the noise level. What
            an edit shall be is decided where there is nothing but noise: by default, half of the levels are above 0.9.
    """

    steps: PositiveInt = 3000
    batch_size: PositiveInt = 64
    right_first: NonNegativeInt = 0
    learning_rate: PositiveFloat = 1e-3
    warmup: NonNegativeInt = 100
    text_rate: Annotated[float, Field(ge=0, le=1)] = 0.1
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998
    focus: Annotated[float, Field(ge=1)] = 3.0
    sigma_mean: float = 1.5
    sigma_std: PositiveFloat = 1.7


class EditorHeldOut(Recipe):
    """What is measured on held-out tasks.

    Attributes:
        split: of the tasks.
        every: steps of flow matching between measurements; 0 for none but the one of the finished model.
        per_kind: tasks of each kind while training; final: of the finished model.
        samples: pictures for each task; the finished model makes one.
        steps: of the sampler; None for the editor's own.
    """

    split: str = "validation"
    every: NonNegativeInt = 1000
    per_kind: PositiveInt = 8
    final: PositiveInt = 24
    samples: PositiveInt = 2
    steps: PositiveInt | None = None


class EditorRecipe(Recipe):
    """Pretraining of an embedded editor: the autoencoder, the latents of edits, the text encoders, flow matching.

    Attributes:
        name: of the model, and of its folder.
        editor: which of the two architectures.
        size: a key of the sizes in `editr1.editors.sticker_pipeline` or `sticker_qwen`.
        start: an editor of this architecture and size to go on from, by name or folder: its tokenizers and autoencoder
            are kept, and flow matching begins with its transformer and text encoders; None for fresh weights.
        texts: instructions that the tokenizers are learnt from.
        seed: of weights, order and noise.
        workers: processes that draw.
        log_every, save_every: steps, in both trainings.
        keep: newest checkpoints that stay on disk.
        precision: "bf16" computes under bfloat16 autocast; weights and optimizer are float32 either way.
        device: "cpu", "cuda", or "auto".
        compile: fuse the blocks with torch.compile first; needs a C++ compiler on CPUs, and a minute or two.
    """

    name: str
    editor: Literal["kontext", "qwen"]
    size: Literal["small", "large"] = "small"
    start: str | None = None
    texts: PositiveInt = 6000
    vae: VaeRecipe = VaeRecipe()
    edits: EditsRecipe = EditsRecipe()
    text: TextRecipe = TextRecipe()
    flow: FlowRecipe = FlowRecipe()
    held_out: EditorHeldOut = EditorHeldOut()
    seed: int = 0
    workers: NonNegativeInt = 1
    log_every: PositiveInt = 20
    save_every: PositiveInt = 250
    keep: PositiveInt = 2
    precision: Literal["bf16", "fp32"] = "bf16"
    device: str = "auto"
    compile: bool = False

    @model_validator(mode="after")
    def _some_are_right(self) -> EditorRecipe:
        if self.flow.right_first and not self.edits.right:
            raise ValueError("flow.right_first asks for right edits, and edits.right is 0: set one of them otherwise")
        return self

    @model_validator(mode="after")
    def _there_is_such_a_size(self) -> EditorRecipe:
        if self.editor == "qwen" and self.size != "small":
            raise ValueError(f"size is {self.size!r}, and the qwen editor comes as small only")
        return self
