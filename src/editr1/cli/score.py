"""`editr1 score`: verdicts on one edit or on a file of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editr1.cli import options
from editr1.errors import ConfigError, JudgeError

if TYPE_CHECKING:
    from editr1.config import ScoreConfig


@options.takes_judge
def score(
    edits: Annotated[
        Path | None,
        typer.Argument(help="Many edits: a JSONL or Parquet file of {id, source, edited, instruction, principles}."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", help="One edit: the picture before.", show_default=False)
    ] = None,
    edited: Annotated[Path | None, typer.Option("--edited", help="The picture after.", show_default=False)] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", help="What was to be done.", show_default=False)
    ] = None,
    principles: Annotated[
        Path | None,
        typer.Option(
            "--principles", help="A JSON file of {question, category}; else the judge makes them.", show_default=False
        ),
    ] = None,
    edits_option: Annotated[Path | None, typer.Option("--input", help="The same as EDITS.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Keep verdicts in this JSONL file; run again to score what is missing.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdicts as JSON, one a line for many edits.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first so many edits.", show_default=False)
    ] = None,
    quiet: options.QuietOption = False,
    passes: Annotated[
        int | None, typer.Option("--passes", help="Verdicts to draw for each edit (default: 1).", show_default=False)
    ] = None,
    *,
    given: options.JudgeOptions,
) -> None:
    """Score edits: which principles hold, why, and how usable the picture is, from 0 to 10.

    Exit code 1 means that some edits of a file have no verdict, 2 that none has.
    """
    edits = _which_input(edits, edits_option, {"--source": source, "--edited": edited, "--instruction": instruction})
    if edits is not None and principles is not None:
        raise ConfigError("--principles is for one edit: in a file, each row holds its own under 'principles'")
    settings = given.resolve(passes=passes)
    if edits is None:
        _score_one(settings, source, edited, instruction, principles, out=out, as_json=as_json, quiet=quiet)
        return
    from editr1.cli.batch import score_file

    raise typer.Exit(score_file(edits, settings, out=out, as_json=as_json, limit=limit, quiet=quiet))


def _which_input(edits: Path | None, edits_option: Path | None, single: dict[str, object]) -> Path | None:
    """The file of edits, or None if one edit is given whole.

    Raises:
        ConfigError: if it is neither, or both.
    """
    given = [name for name, value in single.items() if value is not None]
    if edits is not None and edits_option is not None:
        raise ConfigError(f"two files of edits are given, {edits} and {edits_option}: give one")
    edits = edits or edits_option
    if edits is not None and given:
        raise ConfigError(f"{', '.join(given)} and the file {edits} exclude each other: give one edit, or a file")
    if edits is None and len(given) < len(single):
        missing = ", ".join(name for name in single if name not in given)
        raise ConfigError(f"{missing} missing: give --source, --edited and --instruction, or a file of edits")
    return edits


def _score_one(
    settings: ScoreConfig,
    source: Path | None,
    edited: Path | None,
    instruction: str | None,
    principles: Path | None,
    *,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score one edit and show the verdict. A failed one is printed too if JSON was asked for, then raised."""
    from editr1.datasets import VerdictFile, edit_row, read_principles
    from editr1.images import load_image

    data = {"source": source and str(source), "edited": edited and str(edited), "instruction": instruction}
    row = edit_row(data, where="command line")
    task = row.quadruple.task
    given = None if principles is None else read_principles(principles)
    for picture in (task.source, row.quadruple.edited):  # before a model is loaded for nothing
        load_image(picture)
    file = None if out is None else VerdictFile(out)
    verifier = options.build_verifier(settings, quiet=quiet)
    verdict = verifier.score(task.source, row.quadruple.edited, task.instruction, given, id=row.id)
    if file is not None:
        file.append(row, verdict)
        file.finish()
    if as_json:
        import json

        typer.echo(json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False))
    if not verdict.ok:
        raise JudgeError(f"no verdict ({verdict.status}): {verdict.error or 'the judge gave no reason'}")
    if not as_json:
        from editr1.cli.show import show_verdict

        show_verdict(verdict)
