"""The vocabulary of the sticker domain: what can be in a picture, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass

SIDE = 96
"""Side of a sticker picture in pixels."""

CELLS: dict[str, tuple[int, int]] = {
    "top left": (0, 0), "top": (1, 0), "top right": (2, 0),
    "left": (0, 1), "center": (1, 1), "right": (2, 1),
    "bottom left": (0, 2), "bottom": (1, 2), "bottom right": (2, 2),
}  # fmt: skip
"""Names of the 3x3 places and their (column, row)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of sticker.

    Attributes:
        emoji: the character whose glyph it is.
        hue: the colours that its own look could be mistaken for; it is never painted in these.
        turns: whether upside down can be told from upright; mirrors: likewise for left and right.
    """

    emoji: str
    hue: tuple[str, ...] = ()
    turns: bool = True
    mirrors: bool = False


KINDS: dict[str, Kind] = {
    "star": Kind("\u2b50", ("yellow", "gold")),
    "heart": Kind("\u2764", ("red", "pink")),
    "apple": Kind("\U0001f34e", ("red",)),
    "banana": Kind("\U0001f34c", ("yellow", "gold"), mirrors=True),
    "car": Kind("\U0001f697", ("red",)),
    "cat": Kind("\U0001f431", ("yellow", "gold")),
    "dog": Kind("\U0001f436", ("wood",)),
    "fish": Kind("\U0001f41f", ("blue",), mirrors=True),
    "tree": Kind("\U0001f333", ("green",)),
    "sunflower": Kind("\U0001f33b", ("yellow", "green", "gold")),
    "moon": Kind("\U0001f319", ("yellow", "gold"), turns=False, mirrors=True),
    "cloud": Kind("\u2601", ("blue",)),
    "umbrella": Kind("\u2602", ("purple", "blue")),
    "balloon": Kind("\U0001f388", ("red",)),
    "ball": Kind("\u26bd", ("checker",), turns=False),
    "cake": Kind("\U0001f382", ("pink", "wood")),
    "cup": Kind("\u2615", ("wood",), mirrors=True),
    "house": Kind("\U0001f3e0", ("wood",)),
    "key": Kind("\U0001f511", ("yellow", "gold"), mirrors=True),
    "bell": Kind("\U0001f514", ("yellow", "gold")),
    "rocket": Kind("\U0001f680", ("red", "blue"), mirrors=True),
    "boat": Kind("\u26f5", ("blue", "red")),
    "mushroom": Kind("\U0001f344", ("red",)),
    "crown": Kind("\U0001f451", ("yellow", "gold")),
}
"""All ordinary stickers. The face, which has expressions instead of paints, is in `FACES`."""

FACES: dict[str, str] = {
    "neutral": "\U0001f610",
    "smiling": "\U0001f642",
    "frowning": "\U0001f641",
    "glasses": "\U0001f453",
}
"""Expressions of the face sticker, and the glasses that it may wear."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 40),
    "yellow": (250, 215, 40),
    "green": (45, 170, 60),
    "blue": (40, 90, 230),
    "purple": (140, 50, 190),
    "pink": (250, 120, 190),
}
MATERIALS = ("gold", "wood", "checker")
"""A sticker may be filled with one of these instead of a colour."""

BACKDROPS = (
    "grass", "bricks", "gravel", "galaxy", "cat fur", "coffee table", "palace", "petals",
    "sunset", "sea", "dots", "stripes",
)  # fmt: skip
"""Eight photographs, then four that are painted."""

PHOTO_BACKDROPS = BACKDROPS[:8]
WORDS = ("HELLO", "SALE", "PARTY", "WOW", "LOVE", "OPEN", "HAPPY", "NEW", "YES", "SUMMER", "ZOO", "MUSIC")
STYLES = ("greyscale", "sepia", "pixel", "sketch")
TONES = ("brighter", "darker", "warmer", "cooler")
COLOR_HIDING_STYLES = ("greyscale", "sepia", "sketch")
"""Styles under which the colour of a sticker can't be seen."""
