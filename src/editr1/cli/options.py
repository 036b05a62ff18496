"""Options that every command with a judge has, and how they become a verifier.

A command that takes all of them names one keyword `given: JudgeOptions` and is decorated with `takes_judge`:

    @takes_judge
    def score(edits: Path, *, given: JudgeOptions) -> None:
        verifier = build_verifier(given.resolve())

One that takes some of them lists those, in its own order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

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
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Run directory (default: runs/<name>).", show_default=False)
]
ShipOption = Annotated[bool, typer.Option("--ship", help="Copy the finished model into the package.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, e.g. judge.timeout=300; null leaves out. Repeatable.",
        show_default=False,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no notices.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """What a command line says of its judge; None where it says nothing, so that a recipe or a default holds."""

    judge: JudgeOption = None
    model: ModelOption = None
    base_url: BaseUrlOption = None
    api_key_env: ApiKeyOption = None
    concurrency: ConcurrencyOption = None
    cache: CacheOption = None
    template: TemplateOption = None
    max_tokens: MaxTokensOption = None
    temperature: TemperatureOption = None
    seed: SeedOption = None
    config: ConfigOption = None
    overrides: SetOption = None

    def resolve(self, *, passes: int | None = None) -> ScoreConfig:
        """Settings from the recipe, `--set` and the other options, in rising order of weight.

        Args:
            passes: of an option that commands word differently, or lack.

        Raises:
            ConfigError: for anything that is unknown or of the wrong type.
        """
        from editr1.config import ScoreConfig, load

        values: dict[str, Any] = {
            "judge.kind": self.judge,
            "judge.model": self.model,
            "judge.base_url": self.base_url,
            "judge.api_key_env": self.api_key_env,
            "judge.concurrency": self.concurrency,
            "judge.cache_dir": None if self.cache is None else str(self.cache),
            "template": self.template,
            "sampling.max_tokens": self.max_tokens,
            "sampling.temperature": self.temperature,
            "sampling.seed": self.seed,
            "seed": self.seed,
            "passes": passes,
        }
        said = {key: value for key, value in values.items() if value is not None}
        return load(ScoreConfig, self.config, self.overrides or (), values=said)


def takes_judge(command: Callable[..., None]) -> Callable[..., None]:
    """Put the options of `JudgeOptions` in the place of a command's keyword `given`, which receives them together."""
    hints = get_type_hints(command, include_extras=True)
    options = get_type_hints(JudgeOptions, include_extras=True)
    names = [field.name for field in fields(JudgeOptions)]
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "given":
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=options[name])
                for name in names
            ]
        else:
            own = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            parameters.append(own)

    @wraps(command)
    def with_options(**values: Any) -> None:
        given = JudgeOptions(**{name: values.pop(name) for name in names})
        command(**values, given=given)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def build_verifier(config: ScoreConfig, *, quiet: bool = False) -> Verifier:
    """The verifier that the settings describe.

    Its notice, if it has one and is shown a picture that it may not know, goes to stderr unless `quiet`. What a local
    model's own `verifier_config.json` says holds where the settings leave a choice open.

    Raises:
        ConfigError, ModelError, JudgeError, MissingExtraError: if it cannot be set up.
    """
    from editr1 import loading
    from editr1.judges import Sampling, build_judge
    from editr1.judges.names import resolve_model
    from editr1.verifier import Verifier
    from editr1.verifier.config import VerifierConfig, find_config

    loading.shown = loading.shown and not quiet
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
