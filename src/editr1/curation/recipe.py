"""What `editr1 curate` needs to know, as pydantic models: a TOML file, one table a stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from editr1.config import JudgeConfig, Recipe

Share = Annotated[float, Field(ge=0, le=1)]


class CurationJudge(JudgeConfig):
    """A judge, and what its tokens cost.

    Attributes:
        simulated: name of a simulated judge of the sticker domain, instead of a model.
        prompt_price, completion_price: of a million tokens, in any currency; 0 where nothing is paid by the token.
    """

    simulated: str | None = None
    prompt_price: NonNegativeFloat = 0.0
    completion_price: NonNegativeFloat = 0.0


class SourceRecipe(Recipe):
    """Where contexts come from.

    Attributes:
        kind: "stickers", or a format of `editr1.datasets.contexts`: "imgedit", "folder", "editreward-data",
            "table".
        path: of files.
        split, count: of stickers: a name, and how many tasks there are to draw from.
    """

    kind: Literal["stickers", "imgedit", "folder", "editreward-data", "table"] = "stickers"
    path: str | None = None
    split: str = "curate"
    count: PositiveInt = 1000

    @model_validator(mode="after")
    def _has_path(self) -> SourceRecipe:
        if (self.kind == "stickers") == (self.path is not None):
            raise ValueError("every kind of source but stickers needs a path, and stickers take none")
        return self


class SelectRecipe(Recipe):
    """How many contexts, and which.

    Attributes:
        random: taken unseen.
        hard: taken of those that the judge calls hard.
        pass_rate: share that is expected to pass the judge; sizes the rounds of drawing.
        prompt: TOML file instead of the prompt that ships with editr1.
    """

    random: NonNegativeInt = 100
    hard: NonNegativeInt = 0
    pass_rate: Annotated[float, Field(gt=0, le=1)] = 0.3
    judge: CurationJudge = CurationJudge()
    prompt: str | None = None
    max_tokens: PositiveInt = 512


class DecomposeRecipe(Recipe):
    """Who splits instructions; the template's own words are used."""

    judge: CurationJudge = CurationJudge()
    max_tokens: PositiveInt = 2048


class EditorRecipe(Recipe):
    """One editor.

    Attributes:
        kind: "stickers" (simulated), "folder" (finished edits), "server" (OpenAI-style), "diffusers" (any instruction
            editor of diffusers), "editr1" (one that `editr1 edit` takes, in batches, with or without a LoRA).
        model: name, path or hub id; for a folder, its path.
        samples: candidates of each context.
        pattern: of finished edits' file names, see `FolderEditor`.
        arguments: passed to the server or the pipeline.
        lora, steps, batch_size: of the kind "editr1": weights on the editor, steps of its sampler (None: its own
            number), pictures at a time.
    """

    kind: Literal["stickers", "folder", "server", "diffusers", "editr1"]
    model: str
    samples: PositiveInt = 1
    pattern: str = "{name}"
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: PositiveInt = 4
    timeout: PositiveFloat = 300.0
    send_seed: bool = False
    dtype: str = "bfloat16"
    device: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    lora: str | None = None
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 16


class EditRecipe(Recipe):
    """The editors."""

    editors: Annotated[tuple[EditorRecipe, ...], Field(min_length=1)]


class TraceRecipe(Recipe):
    """The pool, and in which ways it is asked: judges x variants x temperatures x samples traces of each edit.

    Attributes:
        variants: names of additions to the rubric; see `prompts/variants.toml`.
        variants_file: TOML file instead of it.
        samples: traces at each temperature.
        max_tries: draws for one trace until one can be read.
    """

    judges: Annotated[tuple[CurationJudge, ...], Field(min_length=1)]
    variants: Annotated[tuple[str, ...], Field(min_length=1)] = ("plain",)
    variants_file: str | None = None
    temperatures: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (0.7,)
    samples: PositiveInt = 1
    max_tokens: PositiveInt = 2048
    max_tries: PositiveInt = 1

    @model_validator(mode="after")
    def _samples_differ(self) -> TraceRecipe:
        if self.samples > 1 and 0 in self.temperatures:
            raise ValueError("several samples at temperature 0 would be the same: raise it, or take one sample")
        return self


class VerifyRecipe(Recipe):
    """The strict judge.

    Attributes:
        max_hints: traces that it is shown at most.
        prompt: TOML file instead of the prompt that ships with editr1.
    """

    judge: CurationJudge = CurationJudge()
    prompt: str | None = None
    max_hints: PositiveInt = 8
    max_tokens: PositiveInt = 2048
    temperature: NonNegativeFloat = 0.0


class ExportRecipe(Recipe):
    """What is written for fine-tuning.

    Attributes:
        modes: forms of chat and answer that each row holds; "decompose" is held by one row of each context.
        least_accuracy: of the chosen trace against the gold; rows below are left out.
        keep_all_met: share of the edits whose gold calls every principle met that is kept; they teach to say yes.
        holdout: share of contexts, by their ids, that goes to the validation split.
    """

    modes: Annotated[
        tuple[Literal["think", "verify", "think+verify", "viescore", "decompose"], ...], Field(min_length=1)
    ] = ("think+verify", "think", "verify", "viescore", "decompose")
    least_accuracy: Share = 0.0
    keep_all_met: Share = 1.0
    holdout: Share = 0.02


class EstimateRecipe(Recipe):
    """The size and the machines that `--estimate` reckons with.

    Attributes:
        contexts, quadruples: the paper's numbers.
        sample: real prompts that are looked at.
        prefill_rate, decode_rate: tokens a second that one GPU reads and writes, with many requests at once.
        edit_seconds: that one GPU takes for one edit.
    """

    contexts: PositiveInt = 200_000
    quadruples: PositiveInt = 2_000_000
    sample: PositiveInt = 8
    prefill_rate: PositiveFloat = 10_000.0
    decode_rate: PositiveFloat = 2_000.0
    edit_seconds: PositiveFloat = 12.0


class CurationRecipe(Recipe):
    """A whole run.

    Attributes:
        name: of the run, and of its folder under `runs/`.
        seed: of everything that is drawn.
        template: of decomposing and scoring; the fine-tuned verifier will be asked with it.
        shard_size: contexts in a shard: the unit of work on disk and in memory.
        max_tries: draws for an answer until one can be read, where a stage has no number of its own.
    """

    name: str
    seed: int = 0
    template: str = "default"
    shard_size: PositiveInt = 64
    max_tries: PositiveInt = 3
    source: SourceRecipe = SourceRecipe()
    select: SelectRecipe = SelectRecipe()
    decompose: DecomposeRecipe = DecomposeRecipe()
    edit: EditRecipe
    trace: TraceRecipe
    verify: VerifyRecipe = VerifyRecipe()
    export: ExportRecipe = ExportRecipe()
    estimate: EstimateRecipe = EstimateRecipe()
