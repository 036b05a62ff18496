"""Several evaluations side by side as one static HTML file: tables, bars by category, differences, pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from editr1.files import write_atomic
from editr1.reports.pages import render_page
from editr1.reports.pictures import Shown, embed_thumbnail

if TYPE_CHECKING:
    from editr1.evaluation.bootstrap import Estimate
    from editr1.evaluation.compare import Comparison, Run, Section
    from editr1.evaluation.differing import Item

THUMBNAIL_SIDE = 320
"""Largest side, in pixels, of the pictures on a comparison page."""

_LONGEST_NAME = 48  # of a category in a chart; the table beside it has the whole
_SCALES = (5.0, 10.0)  # of points: benchmarks' ranges end at one of these


def write_comparison(comparison: Comparison, path: str | Path, *, title: str = "") -> Path:
    """Write a comparison as one self-contained HTML file.

    The same comparison gives the same bytes, and a picture that cannot be loaded leaves a note in its place.

    Args:
        comparison: what `editr1.evaluation.compare.compare` found.
        path: of the file; its folder is made if missing.
        title: heading of the page; by default the benchmark's name.

    Returns:
        `path`.
    """
    runs = comparison.runs
    items = comparison.items
    page = render_page(
        "comparison.html.j2",
        styles=("figures.css", "comparison.css"),
        scripts=("comparison.js",),
        title=title or f"{comparison.benchmark}: {len(runs)} runs compared",
        comparison=comparison,
        runs=runs,
        letters=[run.letter for run in runs],
        parts=[Part(section, tuple(_charts(section)), _reach(section)) for section in comparison.sections],
        cards=(_card(number, item, runs) for number, item in enumerate(items, start=1)),
        count=len(items),
        categories=sorted({item.category for item in items if item.category}),
        pairs=[(a.letter, b.letter) for i, a in enumerate(runs) for b in runs[i + 1 :]],
    )
    return write_atomic(path, page)


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars by category.

    Attributes:
        figure: that the bars show.
        top: where the scale ends; it begins at 0.
        groups: of each category, its name, shortened for the chart, its whole name, and each run's estimate.
    """

    figure: str
    top: float
    groups: tuple[tuple[str, str, tuple[Estimate | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A section with its charts; `reach` is where the scale of its differences ends, in both directions."""

    section: Section
    charts: tuple[Chart, ...]
    reach: float


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of a card; `run` is the index of the run that made it, None if it belongs to all."""

    shown: Shown
    caption: str
    run: int | None


@dataclass(frozen=True, slots=True)
class Card:
    """An item with its pictures; `gaps` is JSON: letters of two runs -> how far they are apart."""

    number: int
    item: Item
    thumbnails: tuple[Thumbnail, ...]
    gaps: str


def _charts(section: Section) -> Iterator[Chart]:
    for figure, categories in section.charts.items():
        estimates = [e for row in categories.values() for e in row if e is not None]
        highest = max((e.high for e in estimates), default=0.0)
        scales = (1.0,) if section.percent else _SCALES
        top = next((scale for scale in scales if highest <= scale), max(highest, scales[-1]))
        yield Chart(figure, top, tuple((_short(name), name, row) for name, row in categories.items()))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _reach(section: Section) -> float:
    ends = [abs(end) for p in section.paired for e in p.differences.values() for end in (e.low, e.high)]
    return max(ends, default=0.0) or 1.0


def _card(number: int, item: Item, runs: Sequence[Run]) -> Card:
    thumbnails = []
    for picture in item.pictures:
        role = picture.role if picture.run is None else f"edited by {runs[picture.run].letter}"
        thumbnails.append(Thumbnail(embed_thumbnail(role, picture.path, THUMBNAIL_SIDE), role, picture.run))
    return Card(number, item, tuple(thumbnails), _gaps(item.gaps, runs))


def _gaps(gaps: Mapping[tuple[int, int], float], runs: Sequence[Run]) -> str:
    return json.dumps({runs[i].letter + runs[j].letter: round(gap, 6) for (i, j), gap in sorted(gaps.items())})
