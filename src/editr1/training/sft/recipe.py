"""Settings of fine-tuning, stage 1, without torch: what TOML recipes and command lines are checked against."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from editr1.config import Recipe


class LoraRecipe(Recipe):
    """Low-rank adapters in the place of full fine-tuning.

    Attributes:
        rank, alpha: of the adapters; an adapter's output is scaled by alpha / rank.
        dropout: on the adapters' inputs.
        targets: last parts of the names of the layers that get one, e.g. ["q_proj", "v_proj"]. None takes every linear
            layer of the text model, and with `train_vision` those of the vision tower too; never the output layer.
        merge: also write the whole model with the adapters merged in, which is scored like any other.
    """

    rank: PositiveInt = 64
    alpha: PositiveInt = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] | None = None
    merge: bool = True


class HeldOutRecipe(Recipe):
    """What is measured on held-out rows while training: the loss, and judgements by free generation.

    Attributes:
        every: steps between measurements; 0 for none. The last step is measured in any case.
        edits: so many held-out edits, whole contexts first come first, are judged each time; 0 measures the loss only.
        batch_size: most chats that are answered at a time; None leaves it to the judge.
    """

    every: NonNegativeInt = 200
    edits: NonNegativeInt = 64
    batch_size: PositiveInt | None = None


class SftRecipe(Recipe):
    """Cold-start fine-tuning of a verifier on exported chats, on their answers only (section 4 of the paper).

    Attributes:
        name: of the run and of the model.
        model: what to start from: name of a shipped model, folder, or hub id.
        revision: of a hub model.
        data: run directories or exports of `editr1 curate`, folders of Parquet, or Parquet files, in its schema.
        modes: which chats of a row are learnt. The model is asked in the first one: while it is measured, and later by
            what is written beside its weights. "decompose" beside it teaches to split instructions.
        template: TOML file of the prompt template, if the chats were not rendered with one that ships with editr1.
        notice, notice_unless: kept beside the weights, see `editr1.verifier.config`.
        about: a paragraph for the model card, e.g. where data come from and under which licence.
        max_length: longer chats, in tokens with their pictures and answer, are left out and counted; None keeps all.
        max_pixels: larger pictures are scaled down to about this area; kept with the processor. Qwen's processors only.
        epochs: passes over the rows; fractions are allowed.
        steps: optimisation steps, in the place of `epochs`.
        batch_size: chats in a step, all processes together: the result does not depend on how many there are.
        micro_batch_size: chats in one forward pass of one process.
        bucket: put chats of similar length into the same step.
        pad_to: batches are padded to a multiple of this length. Kernels that are made for each shape, as on CPUs and
            with `compile`, want few of them: they cost time to make and memory to keep.
        optimizer: "adamw", or "muon": Muon for the matrices inside the model and AdamW for the rest, which teaches
            small models in fewer steps. Full fine-tuning only, and neither FSDP nor DeepSpeed.
        learning_rate: its peak; it warms up linearly over `warmup` steps, then follows `schedule` down to 0.
        precision: "bf16" computes under bfloat16 autocast; trained weights and optimizer are float32 either way.
        gradient_checkpointing: less memory, for about a third more computing.
        lora: adapters in the place of full fine-tuning.
        train_vision: None trains the vision tower with full fine-tuning and freezes it with LoRA.
        attention: e.g. "flash_attention_2"; None leaves it to transformers.
        uniform_pictures: faster attention for the embedded models; all pictures must be of one size.
        compile: fuse the blocks with torch.compile first; needs a C++ compiler on CPUs, and a minute. With
            `uniform_pictures`, for others see the launcher's own setting.
        seed: of the order of the rows, the adapters and the dropout.
        workers: processes that read and encode pictures, for each training process.
        log_every, save_every: steps; `save_every` must be a multiple, or a resumed run would log other means.
        keep: newest checkpoints that stay on disk.
        held_out: what is measured while training.
        tracker: also log there; its package has to be installed.
        push_to_hub: repository on the hub that gets the finished model.
        hub_private: make that repository private.
        device: "auto" takes the GPU if there is one.
    """

    name: str
    model: str
    revision: str | None = None
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    modes: Annotated[
        tuple[Literal["think", "verify", "think+verify", "viescore", "decompose"], ...], Field(min_length=1)
    ] = ("think+verify",)
    template: str | None = None
    notice: str | None = None
    notice_unless: tuple[int, int] | None = None
    about: str | None = None
    max_length: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    epochs: PositiveFloat = 1.0
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 64
    micro_batch_size: PositiveInt = 4
    bucket: bool = True
    pad_to: PositiveInt = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: PositiveFloat = 1e-5
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: NonNegativeInt = 50
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 1.0
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = True
    lora: LoraRecipe | None = None
    train_vision: bool | None = None
    attention: str | None = None
    uniform_pictures: bool = False
    compile: bool = False
    seed: int = 0
    workers: NonNegativeInt = 2
    log_every: PositiveInt = 10
    save_every: PositiveInt = 200
    keep: PositiveInt = 2
    held_out: HeldOutRecipe = HeldOutRecipe()
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    push_to_hub: str | None = None
    hub_private: bool = True
    device: Literal["auto", "cpu"] = "auto"

    @model_validator(mode="after")
    def _sound(self) -> SftRecipe:
        if self.save_every % self.log_every:
            raise ValueError(f"save_every ({self.save_every}) must be a multiple of log_every ({self.log_every})")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of micro_batch_size ({self.micro_batch_size})"
            )
        if self.uniform_pictures and (self.gradient_checkpointing or self.lora is not None):
            raise ValueError("uniform_pictures goes with full fine-tuning and gradient_checkpointing = false only")
        if self.modes[0] == "decompose":
            raise ValueError('the first of the modes is the one that the verifier is asked in: not "decompose"')
        if self.optimizer == "muon" and self.lora is not None:
            raise ValueError('optimizer = "muon" goes with full fine-tuning only: remove the table lora')
        return self

    @property
    def vision_trains(self) -> bool:
        """Whether the vision tower is trained."""
        return self.lora is None if self.train_vision is None else self.train_vision
