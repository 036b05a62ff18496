"""What tests of `editr1 eval` share."""

from __future__ import annotations

import json
from pathlib import Path


class Outcome:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def files(folder: Path):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def result_of(folder):
    return json.loads((Path(folder) / "result.json").read_text())


RM = ("eval", "rm", "preference", "--scorer", "holistic", "--out", "run", "--data")
