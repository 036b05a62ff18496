import json

import pytest

from editr1.errors import DecomposeError
from editr1.types import Category, Principle
from editr1.verifier.parse import parse_principles
from editr1.verifier.render import format_principles

PRINCIPLES = (
    Principle("Is the man's hat red?", Category.FOLLOW),
    Principle("Is his face unchanged?", Category.KEEP),
    Principle("Is the hat's edge clean?", Category.QUALITY),
)
LIST = format_principles(PRINCIPLES)
ROWS = [p.to_dict() for p in PRINCIPLES]
FORMS = {
    "plain": LIST,
    "fence": f"Here they are:\n```json\n{LIST}\n```\nGood luck!",
    "python": str(ROWS),
    "short names": LIST.replace("Instruction Following", "follow").replace("Feature Preservation", "KEEP"),
    "lines": "\n".join(json.dumps(r) for r in ROWS),
    "wrapped": json.dumps({"principles": ROWS}),
    "think": f'<think>[{{"question": "Is it a draft?", "category": "Keep"}}]</think>{LIST}',
    "draft first": f'[{{"question": "Is it a draft?", "category": "Keep"}}]\nBetter:\n{LIST}',
    "not closed": LIST[:-1],
    "trailing comma": LIST[:-1] + ",]",
    "twice": json.dumps([*ROWS, {**ROWS[0], "question": "is the man's  HAT red"}]),
    "more keys": json.dumps([{"id": i, **r} for i, r in enumerate(ROWS)]),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_forms(text):
    assert parse_principles(text) == PRINCIPLES


BAD = {
    "": "no JSON list",
    "Is the hat red?": "no JSON list",
    LIST[:60]: "cut off|no JSON list",
    json.dumps(ROWS[:2]): "2 distinct questions",
    json.dumps([{"question": f"Is it {i}?", "category": "Follow"} for i in range(21)]): "21 distinct questions",
    json.dumps([*ROWS, {"question": "Is it?"}]): "category",
    json.dumps([*ROWS, {"question": "Is it?", "category": "Style"}]): "Style",
    json.dumps([*ROWS, {"question": " ", "category": "Keep"}]): "non-empty",
    json.dumps([*ROWS, {"question": None, "category": "Keep"}]): "non-empty",
    json.dumps([{"question": f"Is it {i}?", "category": "Keep"} for i in range(5)]): "instruction was followed",
    "[" * 30_000: "no JSON list",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=range(len(BAD)))
def test_faults(text, message):
    with pytest.raises(DecomposeError, match=message) as error:
        parse_principles(text)
    assert "\n" not in str(error.value)


def test_bounds_can_be_set():
    assert len(parse_principles(json.dumps(ROWS[:1]), min_count=1)) == 1
    with pytest.raises(DecomposeError, match="between 1 and 2"):
        parse_principles(LIST, min_count=1, max_count=2)
