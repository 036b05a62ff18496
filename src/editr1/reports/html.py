"""From items to one static HTML file that asks for nothing else: styles, script and pictures are inside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from editr1.files import write_atomic
from editr1.reports.entries import GROUP_ORDER, SCORE_TOLERANCE, Entry, read_entries
from editr1.reports.pictures import PictureRow, max_side_for, picture_row
from editr1.reports.summary import summarise

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def write_report(
    items: Iterable[Mapping[str, Any]],
    path: str | Path,
    *,
    title: str = "Verdicts on edits",
    subtitle: str = "",
    notes: str | Sequence[str] | None = None,
    max_side: int | None = None,
) -> Path:
    """Write verdicts with their pictures as one self-contained HTML file.

    The same items give the same bytes. The file appears whole or not at all, pictures are loaded one edit at a
    time, and a picture that cannot be loaded leaves a note in its place.

    Args:
        items: mappings with `id`, `source`, `edited` (anything that `editr1.images.load_image` takes),
            `instruction`, `verdict` (an `EditVerdict` or its `to_dict()`), and where known `kind`, `editor` and
            `truth`: `{"utility": 0 to 10, "checks": [bool], "faults": [str]}`, shown as a simulation's truth.
        path: of the file; its folder is made if missing.
        title: heading of the page.
        subtitle: the line below it.
        notes: one or more remarks for the top of the page.
        max_side: largest side of an embedded picture in pixels; by default 1024 or less, by the number of edits.

    Returns:
        `path`.

    Raises:
        DataError: if an item has no valid verdict, or a truth of another shape.
    """
    entries = read_entries(items)
    script = _resource("report.js")
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            notes=[notes] if isinstance(notes, str) else list(notes or ()),
            summary=summarise(entries),
            cards=_cards(entries, max_side or max_side_for(len(entries))),
            with_passes=any(e.verdict.passes for e in entries),
            statuses=sorted({e.verdict.status.value for e in entries}),
            families=[family.short for family in GROUP_ORDER],
            tolerance=SCORE_TOLERANCE,
            style=Markup(_resource("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return write_atomic(path, page)


@dataclass(frozen=True, slots=True)
class Card:
    """An entry with its pictures."""

    entry: Entry
    pictures: PictureRow

    @property
    def preprocessing(self) -> list[str]:
        """What was done to the pictures, for the judge and for the difference picture, each thing once."""
        return list(dict.fromkeys((*self.entry.verdict.preprocessing, *self.pictures.notes)))


def _cards(entries: Sequence[Entry], max_side: int) -> Iterator[Card]:
    for entry in entries:
        yield Card(entry, picture_row(entry.source, entry.edited, max_side))


def _resource(name: str) -> str:
    return files("editr1.reports").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("editr1.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        decimal=_decimal, signed=_signed, count=_count, percent=_percent, duration=_duration, band=_band, spaced=_spaced
    )
    return environment


def _printable(value: Any) -> Any:
    """Put the replacement character for what no HTML file may hold: control characters and lone surrogates."""
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def _decimal(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{THIN SPACE}%"


def _spaced(name: str) -> str:
    return re.sub(r"[_-]+", " ", name)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _band(score: float) -> int:
    """Which of four colours a score has; the steps follow the rubric's anchors (5 partly, 8 nearly usable)."""
    return sum(score >= step for step in (2.5, 5.0, 8.0))
