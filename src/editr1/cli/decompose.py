"""`editr1 decompose`: the principles of an instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editr1.cli import judge_options as options
from editr1.errors import DataError


def decompose(
    source: Annotated[Path, typer.Option("--source", help="The picture to be edited.", show_default=False)],
    instruction: Annotated[str, typer.Option("--instruction", help="What is to be done.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, which `score --principles` reads.")] = False,
    judge: options.JudgeOption = None,
    model: options.ModelOption = None,
    base_url: options.BaseUrlOption = None,
    api_key_env: options.ApiKeyOption = None,
    concurrency: options.ConcurrencyOption = None,
    cache: options.CacheOption = None,
    template: options.TemplateOption = None,
    max_tokens: options.MaxTokensOption = None,
    temperature: options.TemperatureOption = None,
    seed: options.SeedOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notices.")] = False,
) -> None:
    """Split an instruction into yes/no principles that a right edit meets."""
    if not instruction.strip():
        raise DataError("the instruction is empty: say what is to be done with the picture")
    settings = options.resolve(
        config,
        overrides,
        judge=judge,
        model=model,
        base_url=base_url,
        api_key_env=api_key_env,
        concurrency=concurrency,
        cache=cache,
        template=template,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
    )
    principles = options.build_verifier(settings, quiet=quiet).decompose(source, instruction)
    if as_json:
        import json

        typer.echo(json.dumps([p.to_dict() for p in principles], indent=2, ensure_ascii=False))
    else:
        from editr1.cli.show import show_principles

        show_principles(principles)
