"""From items to one static HTML file that asks for nothing else: styles, script and pictures are inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editr1.files import write_atomic
from editr1.reports.entries import GROUP_ORDER, SCORE_TOLERANCE, Entry, read_entries
from editr1.reports.pages import render_page
from editr1.reports.pictures import PictureRow, max_side_for, picture_row
from editr1.reports.summary import summarise


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
    page = render_page(
        "report.html.j2",
        styles=("report.css",),
        scripts=("report.js",),
        title=title,
        subtitle=subtitle,
        notes=[notes] if isinstance(notes, str) else list(notes or ()),
        count=len(entries),
        summary=summarise(entries),
        cards=_cards(entries, max_side or max_side_for(len(entries))),
        with_passes=any(e.verdict.passes for e in entries),
        statuses=sorted({e.verdict.status.value for e in entries}),
        families=[family.short for family in GROUP_ORDER],
        tolerance=SCORE_TOLERANCE,
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
