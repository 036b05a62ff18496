"""What tables and figures are made of: cells with a figure of ours and the published one, rows, plots, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.reproduction.run import Outcome, State

PERCENT, POINTS, SIGNED, SIGNED_POINTS = "percent", "points", "signed percent", "signed points"
"""Scales: shares in [0, 1], points from 0 to 10, and differences of either."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of ours, the published one, or both.

    Attributes:
        ours: None where there is none.
        paper: None where the paper has none.
        state: of the step behind ours; empty where none was to be made.
        why: there is none of ours.
        note: on how ours came about.
    """

    ours: Estimate | None = None
    paper: float | None = None
    state: str = ""
    why: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: what is measured here, what the paper measured, and a cell for each column."""

    ours: str
    paper: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves by step: name -> points (step, value)."""

    title: str
    curves: Mapping[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True, slots=True)
class PictureRow:
    """Pictures of one task: captions and where they are."""

    instruction: str
    pictures: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class Making:
    """How what is missing can be made.

    Attributes:
        command: for a shell.
        trains: steps that it trains on the way.
    """

    command: str
    trains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A table or figure.

    Attributes:
        id: for links.
        title: what it shows; `place`: where the paper has it.
        about: how ours is made, and how it differs.
        scale: one of those above.
        columns: names of figures, ours first where the two are not called alike.
        bars: figure -> editor -> category -> estimate.
        missing: runs without curves, and why.
        steps: that it shows, as `editr1 reproduce --only` takes them.
        making: of what is missing; None if nothing is.
    """

    id: str
    title: str
    place: str
    about: str
    scale: str = PERCENT
    columns: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    bars: Mapping[str, Mapping[str, Estimate]] | None = None
    plots: tuple[Plot, ...] = ()
    pictures: tuple[PictureRow, ...] = ()
    missing: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    making: Making | None = None

    @property
    def state(self) -> str:
        """How much of it there is: "whole", "part" or "missing"."""
        cells = [cell for line in self.lines for cell in line.cells if cell.state]
        have = sum(cell.ours is not None for cell in cells) + len(self.plots)
        lack = sum(cell.ours is None for cell in cells) + len(self.missing)
        return "missing" if not have else "part" if lack else "whole"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """Everything that the page shows.

    Attributes:
        outcomes: of all steps.
        machine: where steps were made, without repetition.
    """

    exhibits: tuple[Exhibit, ...]
    outcomes: tuple[Outcome, ...]
    machine: tuple[str, ...]
    from_checkpoints: bool

    @property
    def seconds(self) -> float:
        """Of all steps that were made here."""
        return sum(o.seconds for o in self.outcomes if o.state is State.MADE)

    @property
    def jobs(self) -> int:
        """How many of them were made at a time, at most."""
        return max((int(o.manifest.get("jobs", 1)) for o in self.outcomes if o.state is State.MADE), default=1)


def cell_of(outcome: Outcome | None, ours: Estimate | None, note: str, paper: float | None) -> Cell:
    """A cell: ours with its outcome's state, or why there is none, and the published figure."""
    if outcome is None:
        return Cell(paper=paper, state=State.MISSING.value, why="not asked for")
    if ours is None:
        why = outcome.why or "its run does not hold it yet"
        state = State.MISSING.value if outcome.there else outcome.state.value
        return Cell(paper=paper, state=state, why=why)
    return Cell(ours, paper, outcome.state.value, note=note)


def estimate_of(data: Mapping[str, Any]) -> Estimate:
    """An estimate as results hold it."""
    return Estimate(data["value"], data["low"], data["high"], data["items"])
