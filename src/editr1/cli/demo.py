"""`editr1 demo`: fresh sticker edits, scored by the embedded verifier."""

from __future__ import annotations

from editr1.errors import Editr1Error


def demo() -> None:
    """Draw sticker edits, score them with the embedded verifier, and write a report."""
    raise Editr1Error("the demo is not there yet")
