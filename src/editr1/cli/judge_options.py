"""Options that every command with a judge has, and how they become a verifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from editr1.config import ScoreConfig
    from editr1.verifier import Verifier

JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="embedded, transformers, openai or vllm. By default openai with --base-url, transformers with --model, "
        "else embedded.",
        show_default=False,
    ),
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Name or path of the model.", show_default=False)]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="An OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1.",
        show_default=False,
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        help="The environment variable that holds the server's key.",
        show_default=False,
    ),
]
ConcurrencyOption = Annotated[
    int | None,
    typer.Option("--concurrency", help="Calls under way at once (default: 16).", show_default=False),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for an on-disk cache of answers.", show_default=False),
]
TemplateOption = Annotated[
    str | None,
    typer.Option("--template", help="Prompt template: a name, or a TOML file.", show_default=False),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option("--max-tokens", help="Longest answer, in tokens.", show_default=False),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", help="Of sampling; 0 is greedy.", show_default=False),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", help="Of sampling and of the examples shown.", show_default=False),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML recipe; see recipes/*/score.toml.", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, e.g. judge.timeout=300. Repeatable.",
        show_default=False,
    ),
]


def resolve(
    recipe: Path | None,
    overrides: list[str] | None,
    *,
    judge: str | None = None,
    model: str | None = None,
    base_url: str | None = None,
    api_key_env: str | None = None,
    concurrency: int | None = None,
    cache: Path | None = None,
    template: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    passes: int | None = None,
) -> ScoreConfig:
    """Settings from a recipe, `--set` and a command's own options, in rising order of weight.

    Raises:
        ConfigError: for anything that is unknown or of the wrong type.
    """
    from editr1.config import ScoreConfig, load

    values: dict[str, Any] = {
        "judge.kind": judge,
        "judge.model": model,
        "judge.base_url": base_url,
        "judge.api_key_env": api_key_env,
        "judge.concurrency": concurrency,
        "judge.cache_dir": None if cache is None else str(cache),
        "template": template,
        "sampling.max_tokens": max_tokens,
        "sampling.temperature": temperature,
        "sampling.seed": seed,
        "seed": seed,
        "passes": passes,
    }
    given = {key: value for key, value in values.items() if value is not None}
    return load(ScoreConfig, recipe, overrides or (), values=given)


def build_verifier(config: ScoreConfig, *, quiet: bool = False) -> Verifier:
    """The verifier that the settings describe.

    Its notice, if it has one and is shown a picture that it may not know, goes to stderr unless `quiet`. What a local
    model's own `verifier_config.json` says holds where the settings leave a choice open.

    Raises:
        ConfigError, ModelError, JudgeError, MissingExtraError: if it cannot be set up.
    """
    from editr1.judges import Sampling, build_judge
    from editr1.judges.names import resolve_model
    from editr1.verifier import Verifier
    from editr1.verifier.config import VerifierConfig, find_config

    settings = config.judge
    kind, model = settings.resolved_kind, settings.model
    if kind == "embedded":
        model = model or "embedded"
    path = None if kind == "openai" or model is None else find_config(resolve_model(model))
    own = VerifierConfig() if path is None else VerifierConfig.read(path)
    judge = build_judge(
        kind,
        model,
        base_url=settings.base_url,
        api_key_env=settings.api_key_env,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        cache_dir=settings.cache_dir,
        device=settings.device,
        dtype=settings.dtype,
    )
    sampling = {"max_tokens": own.max_tokens, "temperature": own.temperature}
    return Verifier(
        judge,
        template=config.template or own.load_template(path and path.parent),
        passes=config.passes,
        sampling=Sampling(**(sampling | config.sampling.model_dump(exclude_none=True))),
        max_tries=config.max_tries,
        seed=config.seed,
        notice=None if quiet else own.notice,
        notice_unless=own.notice_unless,
        on_notice=lambda text: typer.echo(f"note: {text}", err=True),
        passes_temperature=own.passes_temperature,
    )
