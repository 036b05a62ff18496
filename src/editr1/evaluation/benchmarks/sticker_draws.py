"""Draws of the embedded domain: what stands in the place of a file where a benchmark is made, not read."""

from __future__ import annotations

import io
from dataclasses import dataclass

from editr1.errors import DataError
from editr1.stickers.draw import draw
from editr1.stickers.scene import Scene


@dataclass(frozen=True, slots=True)
class Draw:
    """A draw, written "<split>", "<split>:<number>" or "<split>:<number>:<annotator>".

    Attributes:
        split: any name; the same name gives the same scenes. "train" is what the embedded models learnt from.
        number: of rows.
        annotator: whose word is the label; empty if none is named.
    """

    split: str
    number: int
    annotator: str = ""

    @classmethod
    def parse(cls, text: str, default: int, annotators: tuple[str, ...] = ()) -> Draw:
        """Read a draw.

        Args:
            text: as above.
            default: number of rows where none is given.
            annotators: that may be named.

        Raises:
            DataError: if it is none.
        """
        split, number, annotator = ([*text.split(":"), "", ""])[:3]
        form = "<split>[:<number>[:<annotator>]]" if annotators else "<split>[:<number>]"
        if not split or "/" in split or text.count(":") > (2 if annotators else 1):
            raise DataError(f"{text!r} is no draw of stickers: write {form}, e.g. test:200")
        if number and (not number.isdecimal() or int(number) < 1):
            raise DataError(f"{number!r} in {text!r} is no number of rows: write {form}, e.g. {split}:200")
        if annotator and annotator not in annotators:
            raise DataError(f"no annotator {annotator!r} in {text!r}: name one of {', '.join(annotators)}")
        return cls(split, int(number) if number else default, annotator)


def png(scene: Scene) -> bytes:
    """The picture of a scene, as it is stored."""
    file = io.BytesIO()
    draw(scene).save(file, "PNG")
    return file.getvalue()
