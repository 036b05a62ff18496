"""`editr1 stickers`: the embedded domain."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="The embedded domain: sticker edits with a known truth.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _stickers() -> None:
    """The embedded domain: sticker edits with a known truth."""
