"""The human study in miniature. The people are simulated, are called so, and never pass as human data."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from editr1.datasets.preferences import SIMULATED
from editr1.evaluation.gsb import Mark, agreement, gsb, read_marks
from editr1.evaluation.reproduction.places import MissingInput
from editr1.evaluation.runs import read_rows
from editr1.files import write_atomic
from editr1.stickers.annotators import PEOPLE, SimulatedHuman


def simulated_study(old: Path, new: Path, marks: Path, seed: int = 0) -> dict[str, Any]:
    """Two editors' pictures of the same tasks before simulated people.

    Each of them sees the utilities that the oracle read off the two pictures, with noise of their own, and marks the
    new editor's as good, same or bad.

    Args:
        old: run directory of `editr1 eval editor stickers --scorer oracle`, of the editor before.
        new: the same of the editor after.
        marks: file to write: what `editr1 eval gsb` reads.
        seed: of the noise and the bootstrap.

    Raises:
        DataError: if a run is not finished.
        MissingInput: if they share no task.
    """
    first, second = ({row["key"]: row["scores"].get("score") for row in read_rows(run)} for run in (old, new))
    shared = [key for key in first if first[key] is not None and second.get(key) is not None]
    if not shared:
        raise MissingInput(f"{old} and {new} share no task that both have a picture of")
    rows = [
        {
            "context": key,
            "annotator": f"{SIMULATED}{human.name}",
            "choice": mark(human, first[key], second[key], key, seed).value,
        }
        for key in shared
        for human in PEOPLE["plain"]
    ]
    write_atomic(marks, "".join(json.dumps(row) + "\n" for row in rows))
    read = read_marks(marks)
    found, agreed = gsb(read.by_context, seed), agreement(read.by_context)
    return {
        "gsb": found.to_dict(),
        "agreement": agreed.to_dict(),
        "people": sorted(human.name for human in PEOPLE["plain"]),
        "contexts": len(shared),
    }


def mark(human: SimulatedHuman, old: float, new: float, context: str, seed: int = 0) -> Mark:
    """What a simulated person says of two pictures that are worth so much, from 0 to 10."""
    rng = Random(f"sticker-study/{human.name}/{context}/{seed}")
    gap = new - old + rng.gauss(0, human.noise) - rng.gauss(0, human.noise)
    return Mark.SAME if abs(gap) < human.same_below else Mark.GOOD if gap > 0 else Mark.BAD
