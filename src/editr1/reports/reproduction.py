"""The paper in miniature as one static HTML file: each of ours beside the published figure, and what it can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from editr1.files import write_atomic
from editr1.reports.pages import render_page
from editr1.reports.pictures import Shown, embed_thumbnail

if TYPE_CHECKING:
    from editr1.evaluation.reproduction.shapes import Exhibit, PictureRow, Plot, Reproduction

SIDE = 192
"""Largest side, in pixels, of the pictures on the page."""

TITLE = "Edit-R1 in miniature"
_ENDS = {
    "percent": (0.0, 1.0),
    "points": (0.0, 10.0),
    "signed percent": (-1.0, 1.0),
    "signed points": (-10.0, 10.0),
}
"""Of a scale, where it begins and ends."""

_WIDTH, _HEIGHT, _LEFT, _TOP = 300, 130, 44, 8  # of a plot's axes, in its own units


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve: its name, its number for colours, and the path of its line."""

    name: str
    number: int
    path: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A plot with its axes: values and places of the ticks."""

    title: str
    curves: tuple[Curve, ...]
    across: tuple[tuple[str, float], ...]
    up: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures of one task."""

    instruction: str
    pictures: tuple[tuple[str, Shown], ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """An exhibit with all that is drawn.

    Attributes:
        kinds: categories of the bars.
        top: where the scale of its bars and marks ends.
        low: where it begins; below 0 for signed figures.
        reasons: why figures are missing, and which.
    """

    exhibit: Exhibit
    plots: tuple[Drawn, ...]
    strips: tuple[Strip, ...]
    kinds: tuple[str, ...]
    low: float
    top: float
    reasons: tuple[tuple[str, str], ...]


def write_reproduction(found: Reproduction, path: str | Path, *, title: str = TITLE) -> Path:
    """Write the page. The same results give the same bytes; a picture that is gone leaves a note in its place.

    Args:
        found: what `editr1.evaluation.reproduction.exhibits.reproduction` made.
        path: of the file; its folder is made if missing.
        title: heading of the page.

    Returns:
        `path`.
    """
    page = render_page(
        "reproduction.html.j2",
        styles=("figures.css", "reproduction.css"),
        scripts=("reproduction.js",),
        title=title,
        found=found,
        sheets=[_sheet(exhibit) for exhibit in found.exhibits],
        count=len(found.exhibits),
        states=Counter(outcome.state.value for outcome in found.outcomes),
    )
    return write_atomic(path, page)


def _sheet(exhibit: Exhibit) -> Sheet:
    low, top = _ENDS[exhibit.scale]
    if low < 0:  # differences are small beside their scale: it ends where they do
        top = min(top, 1.1 * max([abs(end) for end in _ends(exhibit)], default=top) or top)
        low = -top
    kinds = sorted({kind for row in (exhibit.bars or {}).values() for kind in row})
    strips = tuple(_strip(row) for row in exhibit.pictures)
    plots = tuple(_draw(plot) for plot in exhibit.plots)
    return Sheet(exhibit, plots, strips, tuple(kinds), low, top, tuple(reasons(exhibit)))


def reasons(exhibit: Exhibit) -> Iterator[tuple[str, str]]:
    """Every reason once, with the rows that lack figures for it, and which figures where not all of them do."""
    found: dict[str, list[str]] = {}
    for line in exhibit.lines:
        asked = [name for name, cell in zip(exhibit.columns, line.cells, strict=True) if cell.state]
        for why in dict.fromkeys(cell.why for cell in line.cells if cell.why):
            lack = [name for name, cell in zip(exhibit.columns, line.cells, strict=True) if cell.why == why]
            found.setdefault(why, []).append(line.ours if lack == asked else f"{line.ours} ({', '.join(lack)})")
    for why, rows in found.items():
        yield "; ".join(rows), why


def _ends(exhibit: Exhibit) -> list[float]:
    """All that a mark has to show."""
    cells = [cell for line in exhibit.lines for cell in line.cells]
    ours = [end for cell in cells if cell.ours is not None for end in (cell.ours.low, cell.ours.high)]
    return ours + [cell.paper for cell in cells if cell.paper is not None]


def _strip(row: PictureRow) -> Strip:
    return Strip(
        row.instruction, tuple((caption, embed_thumbnail(caption, path, SIDE)) for caption, path in row.pictures)
    )


def _draw(plot: Plot) -> Drawn:
    """Lines between points, both axes from the smallest to the largest value."""
    xs, ys = ([point[axis] for curve in plot.curves.values() for point in curve] for axis in (0, 1))
    left, right = min(xs), max(max(xs), min(xs) + 1)
    low, high = _range(min(ys), max(ys))

    def x(value: float) -> float:
        return _LEFT + _WIDTH * (value - left) / (right - left)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (high - value) / (high - low)

    curves = tuple(
        Curve(name, number, "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points))
        for number, (name, points) in enumerate(plot.curves.items())
    )
    across = tuple((f"{value:g}", x(value)) for value in (left, (left + right) / 2, right))
    up = tuple((f"{value:.3g}", y(value)) for value in (low, (low + high) / 2, high))
    return Drawn(plot.title, curves, across, up)


def _range(low: float, high: float) -> tuple[float, float]:
    """A little room above and below; a flat curve gets some too."""
    room = (high - low) * 0.05 or max(abs(high), 1.0) * 0.05
    return low - room, high + room
