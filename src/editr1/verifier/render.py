"""Render: from a quadruple to the chat that a judge answers, and from checks to the text of a whole answer.

The edited picture is rendered last, after rubric, source picture, instruction and principles: everything before
it is one prefix, the same for all candidates of a context, which engines encode once and share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from PIL import Image

from editr1.judges.base import Message, Picture, Text
from editr1.types import Check, Principle
from editr1.verifier.template import PromptTemplate


def render_score(
    template: PromptTemplate,
    source: Image.Image,
    edited: Image.Image,
    instruction: str,
    principles: Sequence[Principle],
) -> tuple[Message, ...]:
    """The chat that asks for a verdict on one edit."""
    lines = "\n".join(
        template.fill("principle", number=str(i), category=p.category.short, question=p.question)
        for i, p in enumerate(principles, start=1)
    )
    content: list[Text | Picture] = [
        Text(template.source_label),
        Picture(source),
        Text(template.fill("task", instruction=instruction, principles=lines) + template.edited_label),
        Picture(edited),
    ]
    if template.answer:
        content.append(Text(template.answer))
    return (Message("system", (Text(template.score_system),)), Message("user", tuple(content)))


def render_decompose(
    template: PromptTemplate, source: Image.Image, instruction: str, exemplars: str = ""
) -> tuple[Message, ...]:
    """The chat that asks for the principles of a context; `exemplars` is the rendered block of worked examples."""
    task = template.fill("decompose_task", instruction=instruction, exemplars=exemplars)
    return (
        Message("system", (Text(template.decompose_system),)),
        Message("user", (Text(template.source_label), Picture(source), Text(task))),
    )


def format_answer(
    reasoning: str, checks: Sequence[Check], score: float, *, echo_question: bool, average: float | None = None
) -> str:
    """A whole answer in the form that judges are asked for and that `parse_verdict` reads.

    Reasoning, then a JSON list with one object per principle (its reason before its 0/1, so that the reason can
    bear on it), then `{"average_score"}`, then `<score>`.

    Args:
        reasoning: what was seen and thought before the checks.
        checks: one per principle, in order.
        score: final score in [0, 10], written with one decimal.
        echo_question: repeat each question, or give its number only.
        average: the share of principles met as the judge states it; computed from `checks` if None.
    """
    items = []
    for number, check in enumerate(checks, start=1):
        item: dict[str, object] = {"id": number}
        if echo_question:
            item["question"] = check.principle.question
        item |= {"reason": check.reason, "score": int(check.met)}
        items.append(json.dumps(item, ensure_ascii=False))
    if average is None:
        average = sum(c.met for c in checks) / max(len(checks), 1)
    body = "[" + ",\n".join(items) + "]"
    return f'{reasoning}\n{body}\n{{"average_score": {average:.2f}}}\n<score>{score:.1f}</score>'


def format_principles(principles: Sequence[Principle]) -> str:
    """Principles as the JSON array that a decomposition answers with."""
    items = [json.dumps(p.to_dict(), ensure_ascii=False) for p in principles]
    return "[" + ",\n".join(items) + "]"
