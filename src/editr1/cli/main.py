"""The program `editr1`: its commands, and what becomes of errors."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from editr1 import __version__
from editr1.cli import (
    curate,
    decompose,
    demo,
    edit,
    preferences,
    report,
    reproduce,
    score,
    select,
    serve,
    stickers,
    train,
)
from editr1.cli import eval as evaluation
from editr1.errors import Editr1Error

EXIT_SOME_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_FAULT = 3
_DEBUG = "EDITR1_DEBUG"

app = typer.Typer(
    name="editr1",
    help="Verifiers for image edits, and image editors trained by them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing help with rich takes three times as long as all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(short_help="Score one edit, or a file of edits.")(score.score)
app.command(short_help="Split an instruction into yes/no principles.")(decompose.decompose)
app.command(short_help="Edit one picture, or a file of tasks.")(edit.edit)
app.command(short_help="Make reasoning traces for fine-tuning a verifier.")(curate.curate)
app.command(short_help="Make an HTML report of verdicts.")(report.report)
app.command(short_help="Draw sticker edits, score them, write a report.")(demo.demo)
app.command(short_help="Keep the best edits, with reasons.")(select.select)
app.command(short_help="Score edits over HTTP.")(serve.serve)
app.command(short_help="The paper in miniature, beside its figures.")(reproduce.reproduce)
app.add_typer(evaluation.app, name="eval", short_help="Evaluate judges, editors and human studies.")
app.add_typer(preferences.app, name="preferences", short_help="Human preferences between two edits.")
app.add_typer(train.app, name="train", short_help="Train verifiers, and editors by them.")
app.add_typer(stickers.app, name="stickers", short_help="The embedded domain: edits with a known truth.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"editr1 {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ[_DEBUG] = "1"


_PLACE_FAULTS = ("EACCES", "EPERM", "EROFS", "EEXIST", "ENOTDIR", "EISDIR", "ENOSPC", "ENAMETOOLONG")
_PLACES = frozenset(getattr(errno, name) for name in _PLACE_FAULTS)
"""What the system says of a file or folder that a user named, and that cannot be used."""


def run(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit.

    Exit codes: 0 all went well; 1 some items of a batch failed; 2 bad input, or nothing could be computed; 3 a fault
    of editr1's own. An error is one line; `--debug` (or EDITR1_DEBUG=1) shows where it came from.

    Args:
        arguments: what stands behind the program's name; those of this process if None.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it warns of, our errors say
    try:
        app(arguments)
    except Exception as exc:
        if os.environ.get(_DEBUG):
            raise
        if isinstance(exc, Editr1Error):
            typer.echo(f"error: {exc}", err=True)
            sys.exit(EXIT_BAD_INPUT)
        if isinstance(exc, OSError) and exc.filename and exc.errno in _PLACES:
            typer.echo(f"error: {exc.filename}: {exc.strerror}: name another place, or mend this one", err=True)
            sys.exit(EXIT_BAD_INPUT)
        what = str(exc).strip().split("\n")[0]
        typer.echo(
            f"error: unexpected {type(exc).__name__}: {what}  (`editr1 --debug ...` shows where it came from)", err=True
        )
        sys.exit(EXIT_FAULT)
