"""`editr1 select`: the best of N edits of each context, or the edits that keep certain rules, with reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editr1.errors import ConfigError, DataError


def select(
    verdicts: Annotated[Path, typer.Argument(help="Verdicts that `editr1 score --out` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSONL of what is kept; the rest goes beside it.")],
    best: Annotated[
        int | None, typer.Option("--best", min=1, help="Keep so many of each context.", show_default=False)
    ] = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=0, max=10, help="Lowest score.", show_default=False)
    ] = None,
    min_met: Annotated[
        float | None,
        typer.Option("--min-met", min=0, max=1, help="Lowest share of principles met.", show_default=False),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", help="Follow, Keep or Quality: all its principles are met.", show_default=False),
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option("--question", help="A regular expression: principles it finds are met.", show_default=False),
    ] = None,
    top: Annotated[
        float | None, typer.Option("--top", help="Keep this share of all at most, the best.", show_default=False)
    ] = None,
) -> None:
    """Keep the best edits: best of N per context, by score, by principle. Each edit comes with the reason.

    What is not kept is in OUT with .rejected before its ending. Exit code 1 means that nothing is kept.
    """
    from editr1.evaluation.select import Rules, as_row, read_judged, without_principle
    from editr1.evaluation.select import select as apply
    from editr1.files import write_atomic
    from editr1.types import Category

    try:
        families = tuple(Category.parse(name) for name in require or ())
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    rules = Rules(min_score, min_met, families, tuple(question or ()), best, top)
    if rules.empty:
        raise ConfigError("nothing to select by: give --best, --min-score, --min-met, --require, --question or --top")
    rejected = out.with_name(f"{out.stem}.rejected{out.suffix}")
    if verdicts.resolve() in (out.resolve(), rejected.resolve()):
        raise DataError(f"--out names the file of verdicts itself, {verdicts}: name another")
    import json

    chosen = apply(read_judged(verdicts), rules)
    for path, kept in ((out, True), (rejected, False)):
        rows = [as_row(s, verdicts.parent, out.parent) for s in chosen if s.kept is kept]
        write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for what, lacking in without_principle(chosen, rules).items():
        typer.echo(f"note: {lacking} of those kept have no principle of {what}, and break no rule by that", err=True)
    number = sum(s.kept for s in chosen)
    scores = [s.judged.verdict.score for s in chosen if s.kept and s.judged.verdict.score is not None]
    everything = [s.judged.verdict.score for s in chosen if s.judged.verdict.score is not None]
    text = f"{number} of {len(chosen)} edits are kept in {out}, the others are in {rejected}"
    if scores:
        text += f"; mean score {sum(scores) / len(scores):.2f}, of all {sum(everything) / len(everything):.2f}"
    typer.echo(text)
    raise typer.Exit(0 if number else 1)
