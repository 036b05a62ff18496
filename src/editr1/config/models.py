"""The settings that several commands share, as pydantic models. Trainers keep theirs beside their code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

JudgeKind = Literal["embedded", "transformers", "openai", "vllm"]


class Recipe(BaseModel):
    """Base of all configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JudgeConfig(Recipe):
    """Which model judges, and where it runs.

    Attributes:
        kind: "embedded" (ships with editr1, knows stickers only), "transformers", "openai" (any compatible
            server) or "vllm" (in-process); None is "openai" if there is a base URL, "transformers" if there is a
            model, else "embedded".
        model: a name or path that the kind understands; the embedded kind has a default.
        base_url: of an OpenAI-compatible server, up to and including `/v1`.
        api_key_env: name of the environment variable that holds the key; the key itself is never written down.
        concurrency: calls under way at once, for servers.
        timeout: seconds that one call to a server may take.
        cache_dir: folder of the on-disk cache of answers; none by default.
        device, dtype: for local models; chosen by what is there if None.
    """

    kind: JudgeKind | None = None
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    concurrency: PositiveInt = 16
    timeout: PositiveFloat = 120.0
    cache_dir: str | None = None
    device: str | None = None
    dtype: str | None = None

    @property
    def resolved_kind(self) -> JudgeKind:
        """The kind, worked out from the other settings if it is not given."""
        if self.kind is not None:
            return self.kind
        if self.base_url is not None:
            return "openai"
        return "embedded" if self.model in (None, "embedded") else "transformers"


class SamplingConfig(Recipe):
    """How answers are drawn. What is None is left to the model's own `verifier_config.json`, or to the defaults.

    Attributes:
        temperature: 0 is greedy. Several passes need more than 0 to differ.
    """

    max_tokens: PositiveInt | None = None
    temperature: NonNegativeFloat | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None


class ScoreConfig(Recipe):
    """What `editr1 score` and `editr1 decompose` need to know.

    Attributes:
        template: name or TOML file of the prompt template; None takes the model's own, or "default".
        passes: verdicts drawn for each edit; mean, spread and agreement are reported.
        max_tries: draws for one verdict until one can be parsed.
        seed: draws the worked decompositions that are shown to the judge.
    """

    judge: JudgeConfig = JudgeConfig()
    sampling: SamplingConfig = SamplingConfig()
    template: str | None = None
    passes: PositiveInt = 1
    max_tries: PositiveInt = 3
    seed: int = 0
