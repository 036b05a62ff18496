"""Verdicts and principles for people, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from editr1.types import EditVerdict, Principle


def show_principles(principles: Sequence[Principle], console: Console | None = None) -> None:
    """Print principles as a table."""
    table = Table("", "", "question", box=None, header_style="dim", pad_edge=False)
    for number, principle in enumerate(principles, start=1):
        table.add_row(f"[dim]{number}", principle.category.short, escape(principle.question))
    (console or Console()).print(table)


def show_verdict(verdict: EditVerdict, console: Console | None = None) -> None:
    """Print a verdict that is ok: its checks with reasons, and the score."""
    console = console or Console()
    signs = {True: "✓", False: "✗"} if console.encoding.startswith("utf") else {True: "yes", False: "no"}
    agreement = verdict.passes.agreement if verdict.passes else ()
    table = Table("", "", "question", "reason", box=None, header_style="dim", pad_edge=False)
    if agreement:
        table.add_column("agreed", justify="right")
    for index, check in enumerate(verdict.checks or ()):
        colour = "green" if check.met else "red"
        row = [
            f"[bold {colour}]{signs[check.met]}",
            check.principle.category.short,
            escape(check.principle.question),
            escape(check.reason),
        ]
        table.add_row(*row, *([f"{agreement[index]:.0%}"] if agreement else []))
    console.print(table)
    console.print(_summary(verdict))


def _summary(verdict: EditVerdict) -> str:
    checks, score = verdict.checks or (), verdict.score or 0.0
    colour = "green" if score >= 7 else "yellow" if score >= 4 else "red"
    met = sum(check.met for check in checks)
    parts = [f"[bold {colour}]{score:.1f}[/] of 10", f"{met} of {len(checks)} principles met"]
    if (passes := verdict.passes) is not None:
        parts.append(f"{len(passes.scores)} passes, spread {passes.spread:.2f}")
        if passes.failed:
            parts.append(f"{passes.failed} without a verdict")
    parts.append(f"[dim]{escape(verdict.judge)}, {verdict.seconds:.1f} s[/]")
    return "\nscore " + "  ·  ".join(parts)
