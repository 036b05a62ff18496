"""Small records and judges that the tests of the stages share."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editr1.config import load
from editr1.curation.recipe import CurationRecipe
from editr1.curation.records import Context, Decomposed, Edit, Traced
from editr1.types import Category, Check, EditVerdict, Principle, Trace, VerdictStatus
from editr1.verifier.render import format_answer

PRINCIPLES = (
    Principle("Is the star red?", Category.FOLLOW),
    Principle("Is the dog still there?", Category.KEEP),
    Principle("Is the picture sharp?", Category.QUALITY),
)


def png(color: str, size: tuple[int, int] = (16, 12)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


class Make:
    """Makes records; what is not said is the same each time."""

    principles = PRINCIPLES
    png = staticmethod(png)

    def context(self, number: int = 0, **changes: Any) -> Context:
        color = f"#{number:02x}4080"
        fields = {"id": f"c{number}", "source": png(color), "instruction": f"Paint star {number} red.", "origin": "t:0"}
        return Context(**(fields | {"name": f"picture-{number}"} | changes))

    def decomposed(self, number: int = 0) -> Decomposed:
        return Decomposed(f"d{number}", self.context(number), PRINCIPLES)

    def edit(self, number: int = 0) -> Edit:
        return Edit(f"e{number}", self.decomposed(number), "editor", png(f"#{number:02x}0000"))

    def answer(self, met: str, score: float = 5.0, reasoning: str = "I looked.") -> str:
        checks = [Check(p, m == "1", f"seen {m}") for p, m in zip(PRINCIPLES, met, strict=True)]
        return format_answer(reasoning, checks, score, echo_question=False)

    def gold(self, met: str) -> str:
        return json.dumps([{"id": n, "reason": f"saw {m}", "gold": int(m)} for n, m in enumerate(met, start=1)])

    def trace(self, met: str, score: float = 5.0, judge: str = "j", reasoning: str = "I looked.") -> Trace:
        checks = tuple(Check(p, m == "1", f"seen {m}") for p, m in zip(PRINCIPLES, met, strict=True))
        average = sum(c.met for c in checks) / len(checks)
        verdict = EditVerdict(VerdictStatus.OK, checks, average, score, reasoning, judge)
        return Trace("e0", self.answer(met, score, reasoning), verdict, judge)

    def failed_trace(self, status: VerdictStatus = VerdictStatus.TIMEOUT) -> Trace:
        return Trace("e0", "", EditVerdict(status, error="gone"), "j")

    def traced(self, *traces: Trace, number: int = 0) -> Traced:
        return Traced(f"t{number}", self.edit(number), traces)


@pytest.fixture(autouse=True)
def quick_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up every installed package takes longer than a whole small run."""
    monkeypatch.setattr("editr1.rundir.describe_environment", lambda seeds=None: {"seeds": seeds})


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def sticker_recipe(repository: Path) -> Callable[..., CurationRecipe]:
    """The shipped sticker recipe, made small: 3 random and 3 hard contexts, 2 editors, 2 judges x 2 samples."""

    def small(*overrides: str) -> CurationRecipe:
        base = [
            "source.count=40",
            "select.random=3",
            "select.hard=3",
            "shard_size=2",
            'edit.editors=[{kind="stickers", model="careful"}, {kind="stickers", model="sloppy"}]',
            'trace.judges=[{simulated="lenient"}, {simulated="picky"}]',
            "export.holdout=0.2",
            "export.keep_all_met=1",
        ]
        return load(CurationRecipe, repository / "recipes/sticker/curate.toml", [*base, *overrides])

    return small
