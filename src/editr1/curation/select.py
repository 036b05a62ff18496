"""Select: which contexts enter the data (section 4, step 1): a random subset, and a hard one that a judge picks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil
from typing import TypeVar

import numpy as np

from editr1.curation.prompts import Prompt
from editr1.curation.records import Context, Reject, StageResult, content_id
from editr1.datasets.contexts import ContextSource
from editr1.datasets.edits import BadRow
from editr1.datasets.integrity import CheckedContext, check_contexts
from editr1.errors import VerdictParseError
from editr1.images import load_image
from editr1.judges.base import ChatReply, Judge, Message, Picture, ReplyStatus, Sampling, Text
from editr1.types import VerdictStatus
from editr1.verifier.asking import Ask, ask
from editr1.verifier.scan import scan

T = TypeVar("T")

HARD_KINDS = ("multi-step", "fine-detail", "implicit", "precise-spatial")
"""What makes an instruction hard; anything else is simple."""

JudgeFor = Callable[[str], Judge]
"""The judge for a named batch of calls: the name tells apart where its journal lies."""


@dataclass(frozen=True, slots=True)
class Hardness:
    """What the judge said of an instruction. Not `keep` means simple; `kinds` are of HARD_KINDS."""

    keep: bool
    reason: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pick:
    """A selected row: where it is, and as what it was selected."""

    position: int
    subset: str
    reason: str = ""


@dataclass(slots=True)
class Plan:
    """What was selected, in the source's order, and what was not, with reasons."""

    picks: list[Pick] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    looked_at: int = 0


def draw_order(count: int, seed: int) -> list[int]:
    """All positions in an order that a seed decides; the same on any machine and with any version of any library."""
    ranks = np.empty(count, np.uint64)
    for position in range(count):
        ranks[position] = int.from_bytes(hashlib.sha256(f"{seed}/{position}".encode()).digest()[:8], "big")
    return [int(p) for p in np.argsort(ranks, kind="stable")]


def parse_hardness(text: str) -> Hardness:
    """Read the judge's answer.

    Raises:
        VerdictParseError: if it holds no object with a yes or no and a reason, or keeps without naming a kind.
    """
    objects = [v.data for v in scan(text).values if isinstance(v.data, dict) and "keep" in v.data]
    if not objects:
        raise VerdictParseError("empty" if not text.strip() else "bad json", "no object with 'keep'")
    data = objects[-1]
    keep, reason, kinds = data["keep"], data.get("reason"), data.get("kinds") or []
    if not isinstance(keep, bool):
        raise VerdictParseError("bad check value", f"'keep' is {keep!r}, neither true nor false")
    if not isinstance(reason, str) or not reason.strip():
        raise VerdictParseError("no checks", "there is no reason")
    named = tuple(k for k in HARD_KINDS if isinstance(kinds, list) and k in kinds)
    if keep and not named:
        raise VerdictParseError("bad check value", f"kept as {kinds!r}: one of {', '.join(HARD_KINDS)} is needed")
    return Hardness(keep, reason.strip().encode("utf-8", "replace").decode(), named if keep else ())


def filter_hard(
    contexts: Sequence[Context], *, judge: Judge, prompt: Prompt, sampling: Sampling, max_tries: int = 3
) -> StageResult[Context]:
    """The contexts whose instruction the judge calls hard, as the subset "hard", with its reason.

    Rejected are simple ones (kind "simple", with the reason) and those on which the judge failed (by its status).
    """

    def read(reply: ChatReply) -> Hardness:
        if reply.status is ReplyStatus.TRUNCATED:
            raise VerdictParseError("truncated", "the answer ran into the token limit")
        return parse_hardness(reply.text)

    asks = [
        Ask(
            (
                Message("system", (Text(prompt.fill("system")),)),
                Message("user", (Picture(load_image(c.source)), Text(prompt.fill("task", instruction=c.instruction)))),
            ),
            sampling,
            read,
        )
        for c in contexts
    ]
    result: StageResult[Context] = StageResult()
    for context, outcome in zip(contexts, ask(judge, asks, max_tries=max_tries), strict=True):
        if outcome.status is not VerdictStatus.OK or outcome.value is None:
            result.rejects.append(Reject(context.id, outcome.status.value, outcome.error or ""))
        elif not outcome.value.keep:
            result.rejects.append(Reject(context.id, "simple", outcome.value.reason))
        else:
            reason = f"{', '.join(outcome.value.kinds)}: {outcome.value.reason}"
            result.records.append(_as_hard(context, reason))
    return result


def plan_selection(
    source: ContextSource,
    *,
    random: int,
    hard: int,
    seed: int,
    pass_rate: float = 0.3,
    batch: int = 64,
    filter_batch: Callable[[str, Sequence[Context]], StageResult[Context]] | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Plan:
    """Decide which rows are taken; pictures are held a batch at a time.

    The random subset is the first `random` sound rows in the drawn order. The hard subset is drawn from those that
    follow, in rounds of as many as should do; of those that pass, the first in the drawn order are taken.

    Args:
        source: where contexts come from.
        random: how many to take unseen.
        hard: how many to take of those that pass the filter.
        seed: decides the order.
        pass_rate: share that is expected to pass, in (0, 1]: sizes the rounds, and changes nothing else.
        batch: contexts given to the filter at a time.
        filter_batch: `filter_hard` with its judge; called with a name for the batch.
        on_progress: called with the number of picks so far.
    """
    plan, seen = Plan(), dict[bytes, str]()
    order = draw_order(len(source), seed)
    place = {position: rank for rank, position in enumerate(order)}
    start = 0
    while len(plan.picks) < random and start < len(order):
        drawn = order[start : start + random - len(plan.picks)]
        start += len(drawn)
        plan.picks += [Pick(position, "random") for position, _ in _sound(source, drawn, seen, plan)]
        on_progress(len(plan.picks))
    taken, round_number = list[Pick](), 0
    while len(taken) < hard and start < len(order) and filter_batch is not None:
        drawn = order[start : start + ceil((hard - len(taken)) / pass_rate)]
        start += len(drawn)
        rows, passed = _sound(source, drawn, seen, plan), list[Pick]()
        for number, some in enumerate(_batches(rows, batch)):
            result = filter_batch(f"{round_number}-{number:05d}", [context for _, context in some])
            plan.rejects += result.rejects
            by_id = {context.id: position for position, context in some}
            passed += [Pick(by_id[context.id], "hard", context.reason) for context in result.records]
            on_progress(len(plan.picks) + len(taken) + len(passed))
        passed.sort(key=lambda pick: place[pick.position])
        needed = hard - len(taken)
        taken += passed[:needed]
        plan.rejects += [Reject(f"{source.name}:{p.position}", "not needed", p.reason) for p in passed[needed:]]
        round_number += 1
    plan.picks = sorted([*plan.picks, *taken], key=lambda pick: pick.position)
    return plan


def read_picks(source: ContextSource, picks: Sequence[Pick]) -> Iterator[Context]:
    """The selected contexts with their pictures, in the source's order."""
    by_position = {pick.position: pick for pick in picks}
    for row in check_contexts(source.rows(by_position.keys())):
        if isinstance(row, CheckedContext):
            pick = by_position[row.row.position]
            context = _context(source, row)
            yield context if pick.subset == "random" else _as_hard(context, pick.reason)


def _batches(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    while some := list(islice(rows, size)):
        yield some


def _sound(
    source: ContextSource, positions: Sequence[int], seen: dict[bytes, str], plan: Plan
) -> Iterator[tuple[int, Context]]:
    """The rows at these positions that can be used; the others are noted in the plan."""
    plan.looked_at += len(positions)
    for row in check_contexts(source.rows(positions), seen):
        if isinstance(row, BadRow):
            kind = "duplicate" if row.why.startswith("duplicate") else "unreadable"
            plan.rejects.append(Reject(f"{source.name}:{row.where}", kind, row.why))
        else:
            yield row.row.position, _context(source, row)


def _context(source: ContextSource, checked: CheckedContext) -> Context:
    row = checked.row
    instruction = row.instruction.encode("utf-8", "replace").decode()
    return Context(
        id=content_id("context", checked.data, instruction),
        source=checked.data,
        instruction=instruction,
        origin=f"{source.name}:{row.where}",
        name=row.name,
        kind=row.kind,
    )


def _as_hard(context: Context, reason: str) -> Context:
    return replace(context, subset="hard", reason=reason)
