"""What commands show while they run and when they are done; of several processes, the first one speaks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress


def is_first() -> bool:
    """Whether this is the first of the processes that `accelerate launch` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def say_finished(model: Path, name: str, *, ship: bool, dtype: str | None = None) -> None:
    """The last line of a training; with `ship`, the first process copies the model into the package before.

    Args:
        model: its folder.
        name: of its folder in the package.
        ship: whether to copy it.
        dtype: that its weights are kept in there, e.g. "bfloat16"; None leaves them as they are.
    """
    if not is_first():
        return
    text = f"{model}: finished"
    if ship:
        from editr1.training.finish import ship_model

        text += f", copied to {ship_model(model, name, dtype)}"
    typer.echo(text)


def bars(*, shown: bool = True, transient: bool = False) -> Progress:
    """Bars on stderr: what is done, how much of how much, and how long it will take.

    Args:
        shown: False for none.
        transient: show them on a terminal only, and leave no trace there when all is done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not shown or (transient and not console.is_terminal)
    return Progress(*columns, console=console, disable=hidden, transient=transient)


@contextmanager
def steps(name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar moved on by rows of metrics that have "step" and "steps"; shown by the first process only."""
    with bars(shown=is_first()) as progress:
        task = progress.add_task(name, total=None)

        def report(row: dict[str, Any]) -> None:
            shown = next((key for key in ("reward", "loss") if key in row), None)
            text = None if shown is None else f"{name}  {shown} {row[shown]:.3f}"
            progress.update(task, completed=row["step"], total=row["steps"], description=text)

        yield report
        if progress.tasks[0].total is None:  # all was done before
            progress.update(task, visible=False)


def write_verdicts_page(folder: Path, title: str) -> Path | None:
    """A page of the verdicts that a run directory holds, if it holds any; its path."""
    if not (folder / "verdicts.jsonl").is_file():
        return None
    from editr1.reports import load_items, write_report

    return write_report(load_items(folder), folder / "report.html", title=title)
