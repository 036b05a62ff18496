"""The four forms of an answer, and the prompts that ask for them."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from editr1.errors import ConfigError, VerdictParseError
from editr1.types import Category, Check, Principle
from editr1.verifier.modes import (
    MODES,
    mode_template,
    think_answer,
    think_verify_answer,
    verify_answer,
    viescore_answer,
)
from editr1.verifier.parse import parse_verdict
from editr1.verifier.render import render_score
from editr1.verifier.template import load_template

CHECKS = tuple(
    Check(Principle(f"Question {n}?", category), met, f"seen {n}")
    for n, (category, met) in enumerate(
        [
            (Category.FOLLOW, True),
            (Category.FOLLOW, False),
            (Category.KEEP, True),
            (Category.QUALITY, True),
            (Category.QUALITY, False),
        ]
    )
)
PRINCIPLES = [c.principle for c in CHECKS]


@pytest.mark.parametrize("echo", [True, False])
def test_answers_with_checks_are_verdicts(echo: bool) -> None:
    whole = parse_verdict(think_verify_answer("I see.", CHECKS, 6.5, echo_question=echo), PRINCIPLES)
    assert (whole.reasoning, whole.checks, whole.score) == ("I see.", CHECKS, 6.5)
    bare = parse_verdict(verify_answer(CHECKS, 6.5, echo_question=echo), PRINCIPLES)
    assert [c.met for c in bare.checks or ()] == [c.met for c in CHECKS]
    assert (bare.reasoning, {c.reason for c in bare.checks or ()}, bare.score) == ("", {""}, 6.5)


def test_an_answer_that_only_thinks_has_a_score_and_no_checks() -> None:
    text = think_answer("I see.\n", 6.5)
    assert text == "I see.\n<score>6.5</score>"
    with pytest.raises(VerdictParseError):
        parse_verdict(text, PRINCIPLES)


def test_a_holistic_answer_by_hand() -> None:
    rating, score = viescore_answer("I\nsee.", CHECKS).split("\n")
    # Follow 1 of 2, Keep 1 of 1: consistency 5; Quality 1 of 2: 5; root of 25
    expected = {"reasoning": "I see.", "semantic_consistency": 5.0, "perceptual_quality": 5.0}
    assert json.loads(rating) == expected
    assert score == "<score>5.0</score>"
    assert viescore_answer("", CHECKS[2:3]).endswith("<score>10.0</score>")


@pytest.mark.parametrize("name", ["default", "compact"])
@pytest.mark.parametrize("mode", MODES)
def test_every_shipped_template_has_words_for_every_mode(name: str, mode: str) -> None:
    base = load_template(name)
    template = mode_template(base, mode)
    image = Image.new("RGB", (4, 4))
    text = str(render_score(template, image, image, "Paint it red.", PRINCIPLES))
    assert "Paint it red." in text
    assert ("Question 1?" in text) is (mode in ("verify", "think+verify"))
    assert (template.hash == base.hash) is (mode == "think+verify")
    assert template.decompose_system == base.decompose_system


def test_unknown_modes_and_templates_are_named() -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match="'dream'"):
        mode_template(load_template("compact"), "dream")
    with pytest.raises(ConfigError, match="'mine' has no words"):
        mode_template(replace(load_template("compact"), name="mine"), "think")
