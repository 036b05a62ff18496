"""`editr1 report`: verdicts in, one HTML file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from editr1.errors import DataError


def report(
    verdicts: Annotated[
        Path, typer.Argument(help="Verdicts that `editr1 score --out` wrote, or a run directory.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; by default beside the verdicts.")
    ] = None,
    edits: Annotated[
        Path | None,
        typer.Option("--input", help="The edits that were scored, if pictures are bytes in a Parquet file."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
) -> None:
    """Write a report: one static HTML file with pictures, checks, reasons and scores."""
    from editr1.reports import load_items, write_report

    items = load_items(verdicts)
    if not items:
        raise DataError(f"{verdicts} holds no verdicts yet: there is nothing to report")
    if edits is not None:
        _fill_in(items, edits)
    target = out or (verdicts / "report.html" if verdicts.is_dir() else verdicts.with_suffix(".html"))
    name = verdicts.resolve().name if verdicts.is_dir() else verdicts.stem
    write_report(items, target, title=title or f"Verdicts: {name}")
    typer.echo(f"{target}: {len(items)} edits")


def _fill_in(items: list[dict[str, Any]], edits: Path) -> None:
    """Add pictures and instruction, by id, to the items that lack them."""
    from editr1.datasets import EditRow, read_edits

    lacking = {item["id"]: item for item in items if not {"source", "edited"} <= item.keys()}
    for row in read_edits(edits):
        if isinstance(row, EditRow) and (item := lacking.get(row.id)) is not None:
            for key, value in row.as_item().items():
                if key in ("source", "edited", "instruction"):
                    item.setdefault(key, value)
