"""The forms that a verifier can be trained and asked in: the paper's ablation T, V, T+V, and a holistic baseline.

think         reasoning and a final score; no principles are asked (T)
verify        0 or 1 for each principle and a final score; no reasoning (V)
think+verify  reasoning, checks with reasons, final score: the method (T+V)
viescore      a rating of the whole, consistency and quality, in the manner of VIEScore

Beside these a data set may hold chats in the mode "decompose": an instruction split into principles, in the template's
own words, so that a model that judges can also say what is to be judged.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

from editr1.errors import ConfigError
from editr1.types import Category, Check
from editr1.verifier.render import format_answer
from editr1.verifier.template import PromptTemplate

MODES = ("think", "verify", "think+verify", "viescore")
DECOMPOSE = "decompose"
_FILE = Path(__file__).with_suffix(".toml")


def mode_template(base: PromptTemplate, mode: str) -> PromptTemplate:
    """The template that asks in a mode; for "think+verify" and "decompose" it is the base itself.

    Raises:
        ConfigError: if the mode is unknown, or there are no words for it that go with this template.
    """
    if mode not in (*MODES, DECOMPOSE):
        raise ConfigError(f"unknown mode {mode!r}: use one of {', '.join(MODES)}, {DECOMPOSE}")
    if mode in ("think+verify", DECOMPOSE):
        return base
    words = _words().get(base.name, {}).get(mode)
    if words is None:
        raise ConfigError(f"the template {base.name!r} has no words for the mode {mode!r}: {_FILE.name} has some for "
                          f"{', '.join(_words())}")  # fmt: skip
    return replace(base, name=f"{base.name}-{mode}", **words)


def think_answer(reasoning: str, score: float) -> str:
    """The answer in the mode "think"."""
    return f"{reasoning.strip()}\n<score>{score:.1f}</score>"


def verify_answer(checks: Sequence[Check], score: float, *, echo_question: bool) -> str:
    """The answer in the mode "verify"."""
    rows = []
    for number, check in enumerate(checks, start=1):
        question = {"question": check.principle.question} if echo_question else {}
        rows.append(json.dumps({"id": number, **question, "score": int(check.met)}, ensure_ascii=False))
    average = sum(c.met for c in checks) / len(checks)
    return "[" + ",\n".join(rows) + f']\n{{"average_score": {average:.2f}}}\n<score>{score:.1f}</score>'


def think_verify_answer(reasoning: str, checks: Sequence[Check], score: float, *, echo_question: bool) -> str:
    """The answer in the mode "think+verify": that of a verifier."""
    return format_answer(reasoning.strip(), checks, score, echo_question=echo_question)


def viescore_answer(reasoning: str, checks: Sequence[Check]) -> str:
    """The answer in the mode "viescore", made from checks by rule.

    Consistency is 10 times the smaller of the shares of Follow and Keep that are met, quality 10 times the share of
    Quality (a category without principles counts as met), the overall score the root of their product, as in VIEScore.
    """

    def share(category: Category) -> float:
        met = [c.met for c in checks if c.principle.category is category]
        return 10.0 * sum(met) / len(met) if met else 10.0

    consistency, quality = min(share(Category.FOLLOW), share(Category.KEEP)), share(Category.QUALITY)
    rating = {
        "reasoning": " ".join(reasoning.split()),
        "semantic_consistency": round(consistency, 1),
        "perceptual_quality": round(quality, 1),
    }
    return f"{json.dumps(rating, ensure_ascii=False)}\n<score>{sqrt(consistency * quality):.1f}</score>"


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
