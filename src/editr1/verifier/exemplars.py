"""Worked decompositions, shown in context when an instruction is split into principles (section 3.1).

All sixty were written for this project; `exemplars.toml` holds them. The scene stands for the picture that
a model would see: exemplars are text only.
"""

from __future__ import annotations

import hashlib
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from editr1.types import Category, EditKind, Principle
from editr1.verifier.render import format_principles

_FILE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A scene, what is to be done with it, and the principles an expert would split that into.

    Attributes:
        multi_step: whether the instruction asks for several edits at once.
    """

    kind: EditKind
    scene: str
    instruction: str
    principles: tuple[Principle, ...]
    multi_step: bool = False


@cache
def load_exemplars() -> tuple[Exemplar, ...]:
    """All exemplars that ship with editr1, in the file's order."""
    rows = tomllib.loads(_FILE.read_text(encoding="utf-8"))["exemplar"]
    return tuple(
        Exemplar(
            kind=EditKind(row["kind"]),
            scene=row["scene"],
            instruction=row["instruction"],
            principles=tuple(Principle(question, c) for c in Category for question in row[c.short.lower()]),
            multi_step=row.get("multi_step", False),
        )
        for row in rows
    )


def draw(count: int, seed: int, query_key: str) -> tuple[Exemplar, ...]:
    """Exemplars for one query: the same for the same seed and query, on any machine.

    Args:
        count: how many; not more than there are.
        seed: of the run.
        query_key: whatever identifies the query.
    """
    if not count:
        return ()
    digest = hashlib.sha256(f"{seed}\x00{query_key}".encode()).digest()
    return tuple(random.Random(digest).sample(load_exemplars(), count))


def render_exemplars(exemplars: Sequence[Exemplar]) -> str:
    """The block of text that stands in a decomposition prompt; empty for no exemplars."""
    blocks = [
        f"Example {number}\nPicture: {e.scene}\nInstruction: {e.instruction}\n"
        f"Principles:\n{format_principles(e.principles)}"
        for number, e in enumerate(exemplars, start=1)
    ]
    return "\n\n".join(blocks)
