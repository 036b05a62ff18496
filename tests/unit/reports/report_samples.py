"""For report tests: small pictures, verdicts of every kind, and a comparison of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.compare import Comparison, Run, Section
from editr1.evaluation.differing import Answer, Item, Picture
from editr1.evaluation.manifests import Field
from editr1.evaluation.paired import Paired
from editr1.evaluation.published import Published
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


ATTACK = "<script>document.title = 'owned'; throw new Error('owned')</script><img src=x onerror=alert(1)>"
LONG = "averyveryverylongwordwithoutanyspaceinit" * 4
CATEGORIES = ("background_change", "color_alter", "text_change", f"odd {LONG}", ATTACK)


def near(value: float, width: float = 0.5) -> Estimate:
    return Estimate(value, value - width, value + width, 12)


def compared(folder: Path) -> Comparison:
    """Three editors on five categories; five items, of which the last has no pictures and hostile text.

    Item k of the first four has scores k for A, 2 k for B and 4 for C, the last one 0, 9 and none.
    """
    for name, colour in (("source", "teal"), ("edited-0", "crimson"), ("edited-1", "gold"), ("edited-2", "navy")):
        picture(colour, (400, 300)).save(folder / f"{name}.png")
    runs = tuple(
        Run(letter, name, folder / name, f"editor {letter}", "some/judge, scpq", 5, failures)
        for letter, name, failures in (("A", "old", {}), ("B", f"new-{LONG}", {"refused": 2}), ("C", ATTACK, {}))
    )
    figures = ("SC", "PQ", "O")
    charts = {
        f: {c: (near(5 + i), None if i == 1 else near(6 + i / 2), near(3)) for i, c in enumerate(CATEGORIES)}
        for f in figures
    }
    paired = tuple(
        Paired(
            second,
            12,
            3,
            1,
            {"SC": near(gain), "PQ": near(0.1), "O": near(-gain)},
            {"text_change": near(gain)},
            7,
            2,
            0.18,
        )
        for second, gain in ((1, 1.5), (2, -2.0))
    )
    published = (Published("FLUX.1-Kontext", {"SC": 6.27, "O": 5.77}, "judged by GPT-4.1"),)
    sections = (
        Section("en full", False, {f: (near(6), near(6.5), None) for f in figures}, charts, paired, published),
        Section("empty", True, {"strict": (near(0.7, 0.05), None, None)}, {}, (Paired(1, 0, 4, 0, {}, {}, 0, 0, 1.0),)),
    )
    fields = (
        Field("seed", ("0", "0", "5"), False, False),
        Field("judge.fingerprint", (f"openai:{LONG}",) * 3, True, False),
        Field("editor", ("a", "b", "c"), False, True),
    )
    items = [
        _item(folder, f"task-{k}", CATEGORIES[k % 2], f"Do number {k}", (float(k), 2.0 * k, 4.0)) for k in range(4)
    ]
    hostile = _item(folder / "gone", "task-10", ATTACK, ATTACK + LONG, (0.0, 9.0, None))
    warnings = ("seed differs: 0 in A and B, 5 in C", f"odd differs: {LONG} in A, {ATTACK} in B and C")
    return Comparison("editors", "GEdit-Bench", runs, sections, fields, warnings, (*items, hostile))


def _item(folder: Path, name: str, category: str, instruction: str, scores: tuple[float | None, ...]) -> Item:
    pairs = [(i, j, scores[i], scores[j]) for i in range(3) for j in range(i + 1, 3)]
    edited = (Picture("edited", i, folder / f"edited-{i}.png") for i in range(3))
    answers = tuple(
        Answer(s, "not judged") if s is None else Answer(s, f"O {s:.2f}", (("the edit", f"It is worth {s}."),))
        for s in scores
    )
    gaps = {(i, j): abs(a - b) for i, j, a, b in pairs if a is not None and b is not None}
    pictures = (Picture("source", None, folder / "source.png"), *edited)
    return Item(name, category, instruction, "", pictures, answers, gaps)
