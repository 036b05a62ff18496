"""Items for report tests: small pictures, and verdicts of every kind."""

from __future__ import annotations

from typing import Any

from PIL import Image

from editr1.types import Category, Check, EditVerdict, PassStats, Principle, Usage, VerdictStatus

QUESTIONS = (
    ("Is the ball red?", Category.FOLLOW),
    ("Is the backdrop as it was?", Category.KEEP),
    ("Is there no noise?", Category.QUALITY),
)


def picture(colour: str = "teal", size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.new("RGB", size, colour)


def verdict(score: float = 7.5, met: tuple[bool, ...] = (True, True, False), **changes: Any) -> EditVerdict:
    checks = tuple(Check(Principle(q, c), m, f"reason {i}") for i, ((q, c), m) in enumerate(zip(QUESTIONS, met)))
    values: dict[str, Any] = {
        "checks": checks,
        "average_score": sum(met) / len(met),
        "score": score,
        "reasoning": "Before a teal ball, after a red one.",
        "judge": "some/judge",
        "prompt_hash": "0123456789ab",
        "usage": Usage(1000, 200, 1),
        "seconds": 1.5,
    }
    return EditVerdict(VerdictStatus.OK, **(values | changes))


def failure(status: VerdictStatus = VerdictStatus.REFUSED, error: str | None = "the judge declined") -> EditVerdict:
    return EditVerdict(status, error=error, judge="some/judge", usage=Usage(1000, 0, 1), seconds=1.5)


def item(name: str, found: EditVerdict, **changes: Any) -> dict[str, Any]:
    values = {"id": name, "source": picture(), "edited": picture("crimson"), "instruction": "Turn the ball red"}
    return values | {"verdict": found.to_dict()} | changes


def varied() -> list[dict[str, Any]]:
    """Seven edits: four scored (2, 4, 7.5 and 10; two with a truth), three failures of two statuses."""
    passes = PassStats(scores=(6.5, 8.5), spread=1.25, agreement=(1.0, 0.5, 1.0), failed=1)
    truth = {"utility": 8.0, "checks": [True, True, False], "faults": []}
    wrong = {"utility": 9.0, "checks": [True, False, True], "faults": ["backdrop drift"]}
    return [
        item("a-2", verdict(7.5, passes=passes), kind="color_alter", truth=truth),
        item("a-10", verdict(4.0, (True, True, True)), kind="color_alter", truth=wrong, editor="one"),
        item("a-1", verdict(2.0, (False, False, False)), kind="subject-add", editor="two"),
        item("b", verdict(10.0, (True, True, True), preprocessing=("edited: RGBA on white",))),
        item("c", failure()),
        item("d", failure(VerdictStatus.TIMEOUT, None)),
        item("e", failure(VerdictStatus.TIMEOUT), edited=None),
    ]
