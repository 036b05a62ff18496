"""Where things are: three-axis positions of the text model, and windows of the vision tower. Plain integers.

Both follow Qwen2.5-VL. A text token advances all three axes (time, height, width) by one. A picture's tokens share
one time and count rows and columns from where the picture begins; what comes after goes on behind its longer side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Grid = tuple[int, int, int]  # frames, rows and columns of patches


def tokens_of(grid: Grid, merge: int) -> int:
    """How many tokens of the text model a picture takes."""
    frames, rows, columns = grid
    return frames * (rows // merge) * (columns // merge)


def rope_positions(is_picture: NDArray[np.bool_], grids: Sequence[Grid], merge: int) -> tuple[Ints, int]:
    """Positions of a sequence, `(3, length)`, and the position at which an answer begins.

    Args:
        is_picture: `(length,)`, true where a picture's token stands.
        grids: of the pictures, in order of appearance; each picture's tokens stand together.
        merge: side of the square of patches that becomes one token.
    """
    length = len(is_picture)
    positions = np.empty((3, length), dtype=np.int64)
    index = start = 0
    for frames, rows, columns in grids:
        rows, columns = rows // merge, columns // merge
        begin = index + int(np.argmax(is_picture[index:]))
        positions[:, index:begin] = np.arange(start, start + begin - index)
        start += begin - index
        end = begin + frames * rows * columns
        positions[:, begin:end] = np.indices((frames, rows, columns)).reshape(3, -1) + start
        start, index = start + max(rows, columns), end
    positions[:, index:] = np.arange(start, start + length - index)
    # An answer begins behind the largest position, which after a picture at the very end is not `start`.
    return positions, int(positions.max()) + 1 if length else 0


@dataclass(frozen=True, slots=True)
class WindowLayout:
    """An order of a picture's patches in which windows of equal size are neighbours.

    Attributes:
        order: `(tokens,)`, which merged token stands at each place.
        runs: `(first patch, windows, patches of each)` for each size of window.
        rows_columns: `(2, patches)`, each patch's row and column, in that order.
    """

    order: Ints
    runs: tuple[tuple[int, int, int], ...]
    rows_columns: Ints


@lru_cache(maxsize=256)
def window_layout(grid: Grid, merge: int, window: int) -> WindowLayout:
    """Cut a picture into windows of `window` by `window` merged tokens; those at the right and lower edge are smaller.

    Attention within a window, and over the whole picture, does not depend on the order of its members, so the windows
    may be sorted by size: a handful of batched multiplications then serves all windows of all pictures of this size.
    """
    frames, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
    numbers = np.arange(frames * rows * columns, dtype=np.int64).reshape(frames, rows, columns)
    windows = [
        numbers[frame, top : top + window, left : left + window].ravel()
        for frame in range(frames)
        for top in range(0, rows, window)
        for left in range(0, columns, window)
    ]
    windows.sort(key=len)
    order = np.concatenate(windows)
    unit = merge * merge
    runs, first = [], 0
    for size in sorted({len(w) for w in windows}):
        count = sum(len(w) == size for w in windows)
        runs.append((first, count, size * unit))
        first += count * size * unit

    # The picture processor lists patches token by token, and the merge x merge patches of a token row by row.
    row, column = (order // columns) % rows, order % columns
    inner_row, inner_column = np.indices((merge, merge)).reshape(2, 1, -1)
    rows_columns = np.stack(
        [(row[:, None] * merge + inner_row).ravel(), (column[:, None] * merge + inner_column).ravel()]
    )
    return WindowLayout(order, tuple(runs), rows_columns)
