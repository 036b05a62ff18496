"""Verify: a strict judge gives the gold, with the pool's traces as hints that it must not copy (section 4, step 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from editr1.curation.prompts import Prompt
from editr1.curation.records import Pictures, Reject, StageResult, Traced, Verified, content_id, in_memory_sized
from editr1.curation.trace import failure_kind
from editr1.errors import VerdictParseError
from editr1.judges.base import ChatReply, Judge, Message, Picture, ReplyStatus, Sampling, Text
from editr1.types import Check, EditVerdict, Principle
from editr1.verifier.asking import Ask, ask
from editr1.verifier.matching import normalise
from editr1.verifier.scan import scan

_NOTE_CHARACTERS = 4000


def verify(
    traced: Sequence[Traced],
    *,
    judge: Judge,
    prompt: Prompt,
    sampling: Sampling,
    max_tries: int = 3,
    max_hints: int = 8,
    fingerprint: str = "",
) -> StageResult[Verified]:
    """Gold answers for each edit.

    An answer that has not as many entries as there are principles, or not in their order, is asked for afresh; when
    the tries are used up, the edit is rejected, by the status of the failure and, if it could not be read, its fault.

    Args:
        traced: from `trace`.
        judge: the strict one.
        prompt: how it is asked.
        sampling: likewise.
        max_tries: likewise.
        max_hints: traces that it is shown at most, the first ones with a verdict; equal texts once.
        fingerprint: of judge, prompt, sampling and seed; part of each record's id.
    """
    result: StageResult[Verified] = StageResult()
    pictures = Pictures()
    for some in in_memory_sized(traced, lambda record: record.edit):
        asks = [
            Ask(
                render_verify(prompt, record, pictures, max_hints),
                sampling,
                partial(_read_reply, record.edit.principles),
            )
            for record in some
        ]
        for record, outcome in zip(some, ask(judge, asks, max_tries=max_tries), strict=True):
            if outcome.value is None:
                kind = failure_kind(EditVerdict(outcome.status, error=outcome.error))
                result.rejects.append(Reject(record.id, kind, outcome.error or ""))
            else:
                gold = [[check.met, check.reason] for check in outcome.value]
                result.records.append(
                    Verified(content_id("verified", fingerprint, record.id, gold), record, outcome.value)
                )
    return result


def render_verify(prompt: Prompt, record: Traced, pictures: Pictures, max_hints: int) -> tuple[Message, ...]:
    """The chat that asks for gold answers; the edited picture and the notes come last."""
    edit = record.edit
    lines = "\n".join(
        prompt.fill("principle", number=str(i), category=p.category.short, question=p.question)
        for i, p in enumerate(edit.principles, start=1)
    )
    notes = list(dict.fromkeys(record.traces[i].text.strip() for i in record.whole))[:max_hints]
    count = str(len(edit.principles))
    if notes:
        shown = "".join(prompt.fill("note", number=str(i), text=_shorten(n)) for i, n in enumerate(notes, start=1))
        closing = prompt.fill("hints", notes=shown, count=count)
    else:
        closing = prompt.fill("no_notes", count=count)
    content = (
        Text(prompt.fill("source_label")),
        Picture(pictures.source(edit.decomposed.context)),
        Text(prompt.fill("task", instruction=edit.instruction, principles=lines) + prompt.fill("edited_label")),
        Picture(pictures.edited(edit)),
        Text(closing),
    )
    return (Message("system", (Text(prompt.fill("system")),)), Message("user", content))


def parse_gold(text: str, principles: Sequence[Principle], *, truncated: bool = False) -> tuple[Check, ...]:
    """Read gold answers: a JSON list, one object per principle, in the principles' order, each with a reason.

    Unlike a trace, which is forgiven another order, gold must come as it was asked for: an answer that re-orders has
    not gone through the list.

    Raises:
        VerdictParseError: if a number, question, gold or reason is missing or not as it should be.
    """
    if not text.strip():
        raise VerdictParseError("empty", "the answer has no text")
    if truncated:
        raise VerdictParseError("truncated", "the answer ran into the token limit")
    found = scan(text)
    lists = [v.data for v in found.values if isinstance(v.data, list) and any(isinstance(r, dict) for r in v.data)]
    if not lists:
        raise VerdictParseError("bad json" if found.broken else "no checks", found.broken or "there is no JSON list")
    rows = lists[-1]
    if len(rows) != len(principles):
        fault = "missing question" if len(rows) < len(principles) else "unknown question"
        raise VerdictParseError(fault, f"{len(rows)} answers to {len(principles)} principles")
    return tuple(_check(row, number, p) for number, (row, p) in enumerate(zip(rows, principles), start=1))


def _check(row: Any, number: int, principle: Principle) -> Check:
    if not isinstance(row, Mapping):
        raise VerdictParseError("bad json", f"answer {number} is no object")
    stated = row.get("id", row.get("number"))
    if stated is not None and str(stated).strip().lstrip("Qq#").rstrip(".") != str(number):
        raise VerdictParseError("unknown question", f"answer {number} says that it is number {stated}")
    question = row.get("question")
    if question is not None and normalise(str(question)) != normalise(principle.question):
        raise VerdictParseError("unknown question", f"answer {number} is about {str(question)[:80]!r}")
    if stated is None and question is None:
        raise VerdictParseError("missing question", f"answer {number} names no principle")
    gold, reason = row.get("gold", row.get("score")), row.get("reason")
    if isinstance(gold, str) and gold.strip() in ("0", "1"):
        gold = int(gold)
    if not isinstance(gold, bool | int | float) or gold not in (0, 1):
        raise VerdictParseError("bad check value", f"answer {number} is {gold!r}, neither 0 nor 1")
    if not isinstance(reason, str) or not reason.strip():
        raise VerdictParseError("no checks", f"answer {number} has no reason")
    return Check(principle, bool(gold), reason.strip().encode("utf-8", "replace").decode())


def _read_reply(principles: Sequence[Principle], reply: ChatReply) -> tuple[Check, ...]:
    return parse_gold(reply.text, principles, truncated=reply.status is ReplyStatus.TRUNCATED)


def _shorten(text: str) -> str:
    return text if len(text) <= _NOTE_CHARACTERS else text[:_NOTE_CHARACTERS] + " …"
