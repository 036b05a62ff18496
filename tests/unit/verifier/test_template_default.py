"""The shipped rubric: what it must say, and that its output format is the one that is parsed."""

import pytest
from PIL import Image

from editr1.judges.base import Picture, Text
from editr1.types import Category, Check, Principle
from editr1.verifier.parse import parse_verdict
from editr1.verifier.render import format_answer, render_decompose, render_score
from editr1.verifier.template import load_template, names

TEMPLATE = load_template("default")
PICTURE = Image.new("RGB", (8, 8))
PRINCIPLES = (Principle("Is it red?", Category.FOLLOW), Principle("Is it sharp?", Category.QUALITY))

MUST_SAY = [
    "If you are not sure, it is 0",
    "10 %",
    "boxes",
    "A person's left and right are the person's own",
    "not the average",
    "0 is unusable, 5 is partly usable, 8 is nearly usable",
    "decimals are welcome",
    "does not make it a 10",
    "nearly identical to the source",
    "borders",
    "over-sharpening, over-saturation",
    "nobody asked for",
    "contradicts the instruction",
    "A removal must be complete",
    "main subject before",
    "three-dimensional",
    "cost to edit that part in afterwards",
]


@pytest.mark.parametrize("words", MUST_SAY)
def test_rubric_says(words):
    assert words in TEMPLATE.score_system


def test_recheck_order_is_the_papers():
    order = ["quantity:", "action and state:", "negation and comparison:", "form and function:", "material:"]
    order += ["position and state", "composition of the picture", "the main subject:", "the environment:"]
    places = [TEMPLATE.score_system.index(f"{i}. ") for i in range(1, 10)]
    assert places == sorted(places)
    found = [TEMPLATE.score_system.index(words, places[0]) for words in order]
    assert found == sorted(found)


def test_the_output_that_the_rubric_shows_can_be_parsed():
    shown = TEMPLATE.score_system.split("[{", 1)[1].split("</score>")[0]
    text = f"[{{{shown}</score>".replace('"…"', '"Is it red?"', 1).replace(
        '"question": "…"', '"question": "Is it sharp?"'
    )
    verdict = parse_verdict(text, PRINCIPLES)
    assert ([c.met for c in verdict.checks], verdict.score, verdict.average_score) == ([True, False], 6.5, 0.5)


def test_the_output_that_the_rubric_shows_is_what_format_answer_writes():
    checks = [Check(PRINCIPLES[0], True, "…"), Check(PRINCIPLES[1], False, "…")]
    written = format_answer("", checks, 6.5, echo_question=TEMPLATE.echo_question)
    for line in written.replace("Is it red?", "…").replace("Is it sharp?", "…").strip().split("\n"):
        assert line in TEMPLATE.score_system


@pytest.mark.parametrize("name", names())
def test_every_shipped_template_renders(name):
    template = load_template(name)
    instruction = "Pay $5 {now} $instruction"
    system, user = render_score(template, PICTURE, PICTURE, instruction, PRINCIPLES)
    assert [m.role for m in (system, user)] == ["system", "user"]
    pictures = [i for i, part in enumerate(user.content) if isinstance(part, Picture)]
    assert len(pictures) == 2
    between = "".join(p.text for p in user.content[pictures[0] : pictures[1]] if isinstance(p, Text))
    assert instruction in between
    assert all(p.question in between for p in PRINCIPLES)
    system, user = render_decompose(template, PICTURE, instruction, "EXAMPLES $x")
    assert instruction in user.content[-1].text
    assert "EXAMPLES $x" in user.content[-1].text
