"""Export: chosen traces as rows that a trainer takes: pictures, chats and answers in every mode, and their parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from editr1.curation import shards
from editr1.curation.records import Chosen
from editr1.judges.base import Message, Picture
from editr1.types import Check, Trace
from editr1.verifier.modes import (
    DECOMPOSE,
    mode_template,
    think_answer,
    think_verify_answer,
    verify_answer,
    viescore_answer,
)
from editr1.verifier.render import format_principles, render_decompose, render_score
from editr1.verifier.template import PromptTemplate

_BLANK = Image.new("RGB", (1, 1))

COLUMNS: dict[str, Any] = {
    "id": "string",
    "source": shards.IMAGE,
    "edited": shards.IMAGE,
    "instruction": "string",
    "principles": shards.PRINCIPLES,
    "kind": "string",
    "editor": "string",
    "context": "string",
    "subset": "string",
    "score": "float64",
    "average_score": "float64",
    "reasoning": "string",
    "checks": [{"met": "bool", "reason": "string"}],
    "gold": [{"met": "bool", "reason": "string"}],
    "accuracy": "float64",
    "judge": "string",
    "variant": "string",
    "chats": [
        {
            "mode": "string",
            "prompt_hash": "string",
            "messages": [{"role": "string", "content": [{"type": "string", "text": "string"}]}],
            "answer": "string",
        }
    ],
}
"""Columns of the exported data set.

`id`, `source`, `edited`, `instruction`, `principles`, `kind` and `editor` are what `editr1 score` reads. `score`,
`average_score`, `reasoning` and `checks` are the chosen trace's, `gold` the strict judge's. In `messages`, the first
part of type "image" stands for `source`, the second for `edited`.
"""


def export(records: Sequence[Chosen], *, template: PromptTemplate, modes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row for each record, with a chat and an answer in each mode.

    The modes take what their ablation allows: "think+verify" the chosen trace as it stands; "verify" the gold and the
    chosen trace's score; "think" and "viescore", which know of no verification, a trace drawn by the record's id among
    those with a verdict. "decompose", which has nothing to do with the edit, is held by the first row of each context.

    Args:
        records: all of a context are there.
        template: of the chats.
        modes: see `editr1.verifier.modes`.
    """
    templates = {mode: mode_template(template, mode) for mode in modes}
    seen: set[str] = set()
    for record in records:
        edit, verdict = record.verified.traced.edit, record.trace.verdict
        context = edit.decomposed.context
        held = [mode for mode in templates if mode != DECOMPOSE or context.id not in seen]
        seen.add(context.id)
        yield {
            "id": edit.id,
            "source": shards.image(context.source),
            "edited": shards.image(edit.edited),
            "instruction": edit.instruction,
            "principles": [p.to_dict() for p in edit.principles],
            "kind": None if context.kind is None else context.kind.value,
            "editor": edit.editor,
            "context": context.id,
            "subset": context.subset,
            "score": verdict.score,
            "average_score": verdict.average_score,
            "reasoning": verdict.reasoning,
            "checks": _checks(verdict.checks or ()),
            "gold": _checks(record.verified.gold),
            "accuracy": record.accuracy,
            "judge": record.trace.judge,
            "variant": record.trace.variant,
            "chats": [
                {
                    "mode": mode,
                    "prompt_hash": templates[mode].hash,
                    "messages": _messages(templates[mode], mode, record),
                    "answer": answer_in(mode, record, echo_question=template.echo_question),
                }
                for mode in held
            ],
        }


def answer_in(mode: str, record: Chosen, *, echo_question: bool) -> str:
    """The answer that a mode is to learn from a record."""
    if mode == DECOMPOSE:
        return format_principles(record.verified.traced.edit.principles)
    verified = mode in ("verify", "think+verify")
    verdict = (record.trace if verified else unverified_trace(record)).verdict
    if verdict.score is None or verdict.checks is None:
        raise ValueError(f"the trace of {record.id} has no verdict to learn from")
    if mode == "think":
        return think_answer(verdict.reasoning, verdict.score)
    if mode == "viescore":
        return viescore_answer(verdict.reasoning, verdict.checks)
    if mode == "verify":
        return verify_answer(record.verified.gold, verdict.score, echo_question=echo_question)
    return think_verify_answer(verdict.reasoning, verdict.checks, verdict.score, echo_question=echo_question)


def unverified_trace(record: Chosen) -> Trace:
    """The trace that would be taken if nothing had been verified: one of those with a verdict, drawn by id."""
    traced = record.verified.traced
    draw = int.from_bytes(hashlib.sha256(f"unverified/{traced.edit.id}".encode()).digest()[:8], "big")
    return traced.traces[traced.whole[draw % len(traced.whole)]]


def in_holdout(context_id: str, share: float) -> bool:
    """Whether a context belongs to the validation split: decided by its id alone, so that it stays there."""
    draw = int.from_bytes(hashlib.sha256(f"holdout/{context_id}".encode()).digest()[:8], "big")
    return draw < share * 2**64


def _checks(checks: Sequence[Check]) -> list[dict[str, Any]]:
    return [{"met": c.met, "reason": c.reason} for c in checks]


def _messages(template: PromptTemplate, mode: str, record: Chosen) -> list[dict[str, Any]]:
    edit = record.verified.traced.edit
    if mode == DECOMPOSE:
        messages = render_decompose(template, _BLANK, edit.instruction)
    else:
        messages = render_score(template, _BLANK, _BLANK, edit.instruction, edit.principles)
    return [_message(m) for m in messages]


def _message(message: Message) -> dict[str, Any]:
    content = [
        {"type": "image", "text": None} if isinstance(part, Picture) else {"type": "text", "text": part.text}
        for part in message.content
    ]
    return {"role": message.role, "content": content}
