"""The command that makes what an exhibit lacks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace

from editr1.evaluation.reproduction.places import Place, ReproductionSettings
from editr1.evaluation.reproduction.plan import Step, plan
from editr1.evaluation.reproduction.run import NOT_TRIED, Outcome, State, select
from editr1.evaluation.reproduction.shapes import Exhibit, Making


def with_making(exhibit: Exhibit, place: Place, outcomes: Mapping[str, Outcome]) -> Exhibit:
    """The exhibit, with the command that makes what it lacks.

    A folder that is filled from checkpoints is filled from checkpoints further, unless a step was tried there and is
    missing all the same: then it does not ship, and only training makes it, in a folder of its own.

    Args:
        exhibit: names its steps.
        place: that it was made from.
        outcomes: of the steps as they stand.
    """
    if exhibit.state == "whole":
        return exhibit
    settings, out = place.settings, place.out.as_posix()
    chosen = _chosen(exhibit, settings)
    if settings.from_checkpoints and any(_cannot_be_had(outcomes.get(step.name)) for step in chosen):
        settings, out, outcomes = replace(settings, from_checkpoints=False), f"{out}-trained", {}
        chosen = _chosen(exhibit, settings)
    trained = [step.name for step in chosen if step.trains and step.command and step.name not in settings.use]
    trains = () if settings.from_checkpoints else tuple(name for name in trained if not _there(outcomes.get(name)))
    only = [part for name in exhibit.steps for part in ("--only", name)]
    command = shlex.join(["editr1", "reproduce", "--out", out, *_options(settings), *only])
    return replace(exhibit, making=Making(command, trains))


def _chosen(exhibit: Exhibit, settings: ReproductionSettings) -> list[Step]:
    return select(plan(), exhibit.steps, settings.use, from_checkpoints=settings.from_checkpoints)


def _cannot_be_had(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.state is State.MISSING and outcome.why != NOT_TRIED


def _there(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.there


def _options(settings: ReproductionSettings) -> list[str]:
    """Those of the command line that are not as they would be by themselves."""
    usual, given = ReproductionSettings().to_dict(), settings.to_dict()
    options = ["--from-checkpoints"] if settings.from_checkpoints else []
    for name in ("recipes", "pairs", "tasks", "seed"):
        if given[name] != usual[name]:
            options += [f"--{name}", str(given[name])]
    for step, folder in given["use"].items():
        options += ["--use", f"{step}={folder}"]
    return options
