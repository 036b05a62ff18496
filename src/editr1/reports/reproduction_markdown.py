"""The paper in miniature as Markdown: the tables of the HTML page, for a repository or a README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from editr1.files import write_atomic
from editr1.reports.reproduction import reasons

if TYPE_CHECKING:
    from editr1.evaluation.reproduction.shapes import Cell, Exhibit, Plot, Reproduction

_HEAD = """\
# Edit-R1 in miniature

Every table of *Leveraging Verifier-Based Reinforcement Learning in Image Editing* (arXiv 2604.27505), made again on
sticker pictures with models of a few million parameters. Ours stand first, with 95 % bootstrap intervals in brackets;
the paper's, in *italics*, were taken on photographs with models a thousand times as large. No number of ours is
comparable in size with one of theirs; mistakes, annotators and people of ours are simulated: compare rows with rows.
"""


def write_reproduction_markdown(found: Reproduction, path: str | Path) -> Path:
    """Write the tables. The same results give the same bytes.

    Args:
        found: what `editr1.evaluation.reproduction.exhibits.reproduction` made.
        path: of the file; its folder is made if missing.

    Returns:
        `path`.
    """
    parts = [_HEAD, "\n".join(_about(found)), *("\n".join(_exhibit(exhibit)) for exhibit in found.exhibits)]
    return write_atomic(path, "\n".join(part.rstrip("\n") + "\n" for part in parts))


def _about(found: Reproduction) -> Iterator[str]:
    made = "models that ship" if found.from_checkpoints else "models that were trained for it"
    command = "editr1 reproduce --from-checkpoints" if found.from_checkpoints else "editr1 reproduce"
    where = f", on {'; '.join(found.machine)}" if found.machine else ""
    at_a_time = f", {found.jobs} at a time" if found.jobs > 1 else ""
    yield f"`{command}` wrote this page, from {made}{where}: {found.seconds / 60:.0f} minutes of steps{at_a_time}."


def _exhibit(exhibit: Exhibit) -> Iterator[str]:
    yield f"## {exhibit.title}"
    yield ""
    yield f"In the paper: {exhibit.place}. {exhibit.about}"
    if exhibit.lines:
        yield ""
        yield from _table(exhibit)
    if exhibit.plots:
        yield ""
        yield from _ends_of_curves(exhibit.plots)
    if lacking := [*(": ".join(pair) for pair in reasons(exhibit)), *exhibit.missing]:
        yield ""
        yield from (f"- missing: {text}" for text in lacking)


def _table(exhibit: Exhibit) -> Iterator[str]:
    noted = any(cell.note for line in exhibit.lines for cell in line.cells)
    yield _row("", *exhibit.columns, *(["note"] if noted else []))
    yield _row(*["---"] * (len(exhibit.columns) + 1 + noted))
    for line in exhibit.lines:
        name = " / ".join(filter(None, (line.ours, f"*{line.paper}*" if line.paper else "")))
        notes = [f"{column}: {cell.note}" if len(line.cells) > 1 else cell.note
                 for column, cell in zip(exhibit.columns, line.cells, strict=True) if cell.note]  # fmt: skip
        cells = [_cell(cell, exhibit.scale) for cell in line.cells]
        yield _row(name, *cells, *(["; ".join(notes)] if noted else []))


def _cell(cell: Cell, scale: str) -> str:
    parts = []
    if cell.ours is not None:
        low, high = _number(cell.ours.low, scale), _number(cell.ours.high, scale)
        parts.append(f"{_number(cell.ours.value, scale)} [{low}, {high}]")
    elif cell.state:
        parts.append(cell.state)
    if cell.paper is not None:
        parts.append(f"*{_number(cell.paper, scale)}*")
    return " / ".join(parts)


def _number(value: float, scale: str) -> str:
    """Shares in percent, points with two places; differences with their sign."""
    share = "percent" in scale
    sign = "+" if scale.startswith("signed") else ""
    return f"{100 * value if share else value:{sign}.{1 if share else 2}f}"


def _ends_of_curves(plots: Sequence[Plot]) -> Iterator[str]:
    """Where every curve begins and ends; the HTML page draws them."""
    yield _row("curve", "from step", "to step", "first", "last")
    yield _row(*["---"] * 5)
    for plot in plots:
        for name, points in plot.curves.items():
            (begin, first), (end, last) = points[0], points[-1]
            yield _row(f"{plot.title}: {name}", f"{begin:g}", f"{end:g}", f"{first:.3g}", f"{last:.3g}")


def _row(*cells: str) -> str:
    escaped = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(escaped)} |"
