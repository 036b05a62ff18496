"""A 5x7 pixel font for captions, drawn for this project."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_ROWS = 7
_GLYPHS = {  # seven rows of five bits, top to bottom
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30), "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30), "E": (31, 16, 16, 30, 16, 16, 31), "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 14), "H": (17, 17, 17, 31, 17, 17, 17), "I": (14, 4, 4, 4, 4, 4, 14),
    "J": (7, 2, 2, 2, 2, 18, 12), "K": (17, 18, 20, 24, 20, 18, 17), "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17), "N": (17, 25, 21, 19, 17, 17, 17), "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16), "Q": (14, 17, 17, 17, 21, 18, 13), "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4), "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4), "W": (17, 17, 17, 21, 21, 27, 17), "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4), "Z": (31, 1, 2, 4, 8, 16, 31),
}  # fmt: skip


@cache
def word_mask(word: str, scale: int = 2) -> tuple[Mask, Mask]:
    """Ink and outline of a word in capitals: two masks of ((7 + 2) * scale, (6 n + 1) * scale), outline holding ink.

    Raises:
        ValueError: for a character that is no capital letter.
    """
    if not word or any(c not in _GLYPHS for c in word):
        raise ValueError(f"a caption is one word in capital letters A-Z, got {word!r}")
    grid = np.zeros((_ROWS + 2, 6 * len(word) + 1), bool)
    for i, char in enumerate(word):
        for row, bits in enumerate(_GLYPHS[char]):
            for column in range(5):
                grid[row + 1, 6 * i + 1 + column] = bool(bits >> (4 - column) & 1)
    ink = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    padded = np.pad(ink, 1)
    outline = np.zeros_like(ink)
    for dy in range(3):
        for dx in range(3):
            outline |= padded[dy : dy + ink.shape[0], dx : dx + ink.shape[1]]
    ink.setflags(write=False)
    outline.setflags(write=False)
    return ink, outline
