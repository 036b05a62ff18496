"""Figures that others published, out of one file, `published.toml`, with their sources."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Published:
    """A figure from a paper or leaderboard, to print beside one's own: same data, but others' judges and months.

    Attributes:
        name: what was measured.
        figures: by the names that the table's figures have; shares in [0, 1], points as published.
        note: how it was measured, where that matters.
        source: where it stands, in a few words.
    """

    name: str
    figures: Mapping[str, float]
    note: str = ""
    source: str = ""


def published(table: str) -> tuple[Published, ...]:
    """The rows of a table of `published.toml`, in its order.

    Raises:
        KeyError: if there is no such table.
    """
    data = _data()
    return tuple(
        Published(row["name"], row["figures"], row.get("note", ""), _told(data["sources"][row["source"]]))
        for row in data["tables"][table]
    )


def _told(source: Mapping[str, str]) -> str:
    return f"{source['title']}, {source['where']}"


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(files("editr1.evaluation").joinpath("published.toml").read_text(encoding="utf-8"))
