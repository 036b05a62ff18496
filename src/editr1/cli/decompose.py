"""`editr1 decompose`: the principles of an instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editr1.cli import options
from editr1.errors import DataError


@options.takes_judge
def decompose(
    source: Annotated[Path, typer.Option("--source", help="The picture to be edited.", show_default=False)],
    instruction: Annotated[str, typer.Option("--instruction", help="What is to be done.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, which `score --principles` reads.")] = False,
    *,
    given: options.JudgeOptions,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notices.")] = False,
) -> None:
    """Split an instruction into yes/no principles that a right edit meets."""
    if not instruction.strip():
        raise DataError("the instruction is empty: say what is to be done with the picture")
    settings = given.resolve()
    principles = options.build_verifier(settings, quiet=quiet).decompose(source, instruction)
    if as_json:
        import json

        typer.echo(json.dumps([p.to_dict() for p in principles], indent=2, ensure_ascii=False))
    else:
        from editr1.cli.show import show_principles

        show_principles(principles)
