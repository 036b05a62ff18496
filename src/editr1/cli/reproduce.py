"""`editr1 reproduce`: the paper's tables and figures on the embedded domain, ours beside the published ones."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editr1.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editr1.evaluation.reproduction.places import Place
    from editr1.evaluation.reproduction.plan import Step
    from editr1.evaluation.reproduction.run import Outcome

PAGE, TABLES = "reproduction.html", "reproduction.md"


def reproduce(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of everything.")] = Path("runs/reproduce"),
    from_checkpoints: Annotated[
        bool, typer.Option("--from-checkpoints", help="Train nothing: take the models and results that ship.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STEP", help="A step, group or pattern, with what it needs. Repeatable."),
    ] = None,
    use: Annotated[
        list[str] | None,
        typer.Option("--use", metavar="STEP=DIR", help="Take that run, or model, for a step. Repeatable."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the steps and how they stand; do nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run; do nothing.")] = False,
    ship: Annotated[
        bool, typer.Option("--ship", help="Copy the results that were made into the package.", hidden=True)
    ] = False,
    recipes: Annotated[Path, typer.Option("--recipes", help="Recipes of the embedded domain.")] = Path(
        "recipes/sticker"
    ),
    pairs: Annotated[
        int, typer.Option("--pairs", min=1, help="Pairs that each verifier judges; half as many in the benchmark.")
    ] = 1000,
    tasks: Annotated[int, typer.Option("--tasks", min=1, help="Tasks that each editor is given.")] = 330,
    seed: Annotated[int, typer.Option("--seed", help="Of bootstraps and of the simulated study.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, help="Steps at a time.", show_default="1 where there is a GPU, else 2 on two cores"
        ),
    ] = None,
) -> None:
    """The paper in miniature: every table and figure on stickers, beside the published figures, as one HTML page.

    From scratch, or --from-checkpoints in minutes; its tables are written as Markdown, too. Killed at any time, the
    same command goes on. Exit code 1 means that some steps are missing or failed (the page says which), 2 that nothing
    could be made.
    """
    from editr1.evaluation.reproduction.places import Place, ReproductionSettings
    from editr1.evaluation.reproduction.plan import plan
    from editr1.evaluation.reproduction.run import read_outcomes, run_plan, select

    given = _used(use or ())
    settings = ReproductionSettings(from_checkpoints, recipes, pairs, tasks, seed, given)
    place, steps = Place(out, settings), select(plan(), only or (), given, from_checkpoints=from_checkpoints)
    wanted = {step.name for step in (*select(plan(), (), given, from_checkpoints=from_checkpoints), *steps)}
    every = [step for step in plan() if step.name in wanted]
    if show_list:
        _list(read_outcomes(place, every))
        return
    if dry_run:
        _say_what_would_be_run(place, steps, read_outcomes(place, steps))
        return
    begun = time.monotonic()
    run_plan(place, steps, report=lambda text: typer.echo(text, err=True), jobs=_shared(jobs))
    took = time.monotonic() - begun
    outcomes = read_outcomes(place, every)
    page = _write_page(place, outcomes)
    if ship:
        _ship(place, outcomes)
    _end(page, outcomes, {step.name for step in steps}, took)


def _shared(jobs: int | None) -> int:
    """How many steps are done at a time; unless the user says how many threads a command has, each gets its share."""
    import torch

    cores = os.cpu_count() or 1
    count = jobs or (1 if torch.cuda.is_available() else min(cores, 2))
    if count > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // count, 1)))
    return count


def _used(given: Sequence[str]) -> dict[str, Path]:
    """Step -> folder, of `--use`.

    Raises:
        ConfigError: if one is not of the form STEP=DIR, or there is no such folder.
    """
    found = {}
    for text in given:
        step, equals, folder = text.partition("=")
        if not equals or not step or not folder:
            raise ConfigError(f"--use {text!r} is not of the form STEP=DIR, e.g. ablation=runs/sticker-ablation")
        if not Path(folder).is_dir():
            raise ConfigError(f"--use {text!r}: there is no folder {folder}")
        found[step] = Path(folder)
    return found


def _list(outcomes: Sequence[Outcome]) -> None:
    """A line for each step of the plan."""
    width = max(len(outcome.step) for outcome in outcomes)
    for outcome in outcomes:
        took = f"{outcome.seconds:8.0f} s" if outcome.seconds else " " * 10
        typer.echo(f"{outcome.state.value:8} {took}  {outcome.step:{width}} {outcome.title}")


def _say_what_would_be_run(place: Place, steps: Sequence[Step], outcomes: Sequence[Outcome]) -> None:
    figures: set[str] = set()  # steps of which no run ships that figures could be computed from
    for step, outcome in zip(steps, outcomes, strict=True):
        if outcome.there:
            typer.echo(f"{step.name}: {outcome.state.value}")
        elif step.name in place.settings.use:
            typer.echo(f"{step.name}: taken from {place.settings.use[step.name]}")
        else:
            typer.echo(f"{step.name}: {_what_would_be_done(place, step, figures)}")


def _what_would_be_done(place: Place, step: Step, figures: set[str]) -> str:
    """One line; adds the step to `figures` if it belongs there."""
    from editr1.evaluation.reproduction.places import SHIPPED_MODELS, MissingInput

    try:
        if place.settings.from_checkpoints and step.trains:
            if step.name not in SHIPPED_MODELS:
                raise MissingInput("no result of it ships with this version")
            place.digest(step.name)
            figures.add(step.name)  # its curves, that is
            return "taken from what ships"
        if step.command is not None:
            return f"editr1 {' '.join(step.command(place))}"
        if not figures.intersection(step.needs):
            return f"computed from {', '.join(step.needs)}"
        why = f"no run of {', '.join(sorted(figures.intersection(step.needs)))} ships"
    except MissingInput as exc:
        why = str(exc)
    figures.add(step.name)
    ships = place.settings.from_checkpoints and place.shipped_file(step.name).is_file()
    return "the result that ships" if ships else f"missing: {why}"


def _write_page(place: Place, outcomes: Sequence[Outcome]) -> Path:
    from editr1.evaluation.reproduction.exhibits import reproduction
    from editr1.reports import write_reproduction, write_reproduction_markdown

    found = reproduction(place, outcomes)
    write_reproduction_markdown(found, place.out / TABLES)
    return write_reproduction(found, place.out / PAGE)


def _ship(place: Place, outcomes: Sequence[Outcome]) -> None:
    """Copy results into the package; models ship by the commands that make them."""
    from editr1.evaluation.reproduction.run import State
    from editr1.files import write_json

    for outcome in outcomes:
        if outcome.state is State.MADE:
            write_json(place.shipped_file(outcome.step), outcome.to_dict())


def _end(page: Path, outcomes: Sequence[Outcome], asked: set[str], took: float) -> None:
    """The last line, and the exit code."""
    there = sum(outcome.there for outcome in outcomes if outcome.step in asked)
    seconds = sum(outcome.seconds for outcome in outcomes if outcome.state.value == "made")
    made = f"those made here took {seconds:.0f} s in all, {took:.0f} s passed now"
    typer.echo(f"{page}: {there} of {len(asked)} steps are there; {made}")
    raise typer.Exit(0 if there == len(asked) else 1 if there else 2)
