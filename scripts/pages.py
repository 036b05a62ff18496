"""What the pages of results share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def line(*cells: object) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def rule(columns: int) -> str:
    """The line under a table's head."""
    return line(*["---"] * columns)


def without_pauses(times: Sequence[float]) -> float:
    """Seconds from the first to the last of something that is done again and again.

    The first one's time, before there is anything to reckon from, is taken to be the usual one. A pause, as between a
    kill and going on, counts no more than five of them.
    """
    gaps = sorted(b - a for a, b in pairwise(sorted(times)))
    usual = gaps[len(gaps) // 2]
    return sum(min(gap, 5 * usual) for gap in gaps) + usual
