"""Judgements by free generation on held-out edits while a verifier is trained.

The model answers as it will later be asked to, in the mode that it is taught; what it says is compared with the strict
judge's gold. A failed judgement is counted and is never a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from editr1.errors import DataError
from editr1.images import prepare_pair
from editr1.judges.base import Judge, Sampling
from editr1.training.sft.data import stored_picture
from editr1.types import Principle
from editr1.verifier.asking import Ask, ask
from editr1.verifier.render import render_score
from editr1.verifier.score import Verifier
from editr1.verifier.score_text import read_final_score
from editr1.verifier.template import PromptTemplate

CHECKING_MODES = ("verify", "think+verify")
"""Modes whose answers hold checks; of the others only the score is read."""


@dataclass(frozen=True, slots=True)
class HeldOutEdit:
    """An edit with its gold.

    Attributes:
        gold: the strict judge's answers, one for each principle.
    """

    id: str
    context: str
    source: Any
    edited: Any
    instruction: str
    principles: tuple[Principle, ...]
    gold: tuple[bool, ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> HeldOutEdit:
        """From a row of an export.

        Raises:
            DataError: if there is not one gold answer for each principle.
        """
        if len(row["principles"]) != len(row["gold"]) or not row["gold"]:
            raise DataError(
                f"the row {row['id']!r} has {len(row['gold'])} gold answers to {len(row['principles'])} principles"
            )
        return cls(
            id=str(row["id"]),
            context=str(row["context"]),
            source=stored_picture(row["source"]),
            edited=stored_picture(row["edited"]),
            instruction=row["instruction"],
            principles=tuple(Principle.from_dict(p) for p in row["principles"]),
            gold=tuple(bool(check["met"]) for check in row["gold"]),
        )

    @property
    def worth(self) -> float:
        """Share of principles that the gold calls met, 0 to 1."""
        return fmean(self.gold)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the model said about an edit: `score` is None if it failed, `met` also if it was asked for no checks."""

    id: str
    score: float | None
    met: tuple[bool, ...] | None = None


def choose_edits(rows: Any, number: int) -> list[HeldOutEdit]:
    """At least `number` edits, if there are so many: whole contexts, in the order of the rows."""
    contexts = list(rows["context"])
    wanted: list[str] = []
    count = 0
    for context in dict.fromkeys(contexts):
        if count >= number:
            break
        wanted.append(context)
        count += contexts.count(context)
    return [HeldOutEdit.from_row(rows[i]) for i, context in enumerate(contexts) if context in set(wanted)]


def judge_edits(
    judge: Judge, asked: PromptTemplate, mode: str, edits: Sequence[HeldOutEdit], *, max_tokens: int
) -> list[Judged]:
    """Let a model judge edits in a mode: one greedy answer each, in order.

    Args:
        judge: the model.
        asked: the template in the form of the mode (see `editr1.verifier.modes.mode_template`).
        mode: one of `editr1.verifier.modes.MODES`.
        edits: to judge.
        max_tokens: limit on an answer.
    """
    sampling = Sampling(max_tokens=max_tokens)
    if mode in CHECKING_MODES:
        verifier = Verifier(judge, template=asked, sampling=sampling, max_tries=1)
        items = [
            {"source": e.source, "edited": e.edited, "instruction": e.instruction, "principles": e.principles}
            for e in edits
        ]
        verdicts = verifier.score_many(items)
        return [
            Judged(e.id, v.score, None if v.checks is None else tuple(c.met for c in v.checks))
            for e, v in zip(edits, verdicts, strict=True)
        ]
    asks = []
    for edit in edits:
        source, edited, _ = prepare_pair(edit.source, edit.edited)
        messages = render_score(asked, source, edited, edit.instruction, edit.principles)
        asks.append(Ask(messages, sampling, read_final_score))
    outcomes = ask(judge, asks, max_tries=1)
    return [Judged(edit.id, outcome.value) for edit, outcome in zip(edits, outcomes, strict=True)]


def agreement(edits: Sequence[HeldOutEdit], judged: Sequence[Judged]) -> dict[str, float]:
    """How far judgements agree with the gold.

    Returns:
        judged: number of edits; parsed: share of them with a judgement.
        principle_accuracy: share of checks that agree with the gold, over all checks of parsed judgements;
        principle_balanced_accuracy: mean of that share over principles that the gold calls met and those it does not.
        pair_accuracy: over pairs of edits of one context of which the gold calls different shares of principles met and
        both of which have a score: how often the better one scores higher, a tie being wrong; pair_ties: share of ties;
        pairs: their number; pairs_failed: pairs that lack a score.
        A figure over nothing is left out.
    """
    pairs = list(zip(edits, judged, strict=True))
    checks = [both for edit, said in pairs if said.met for both in zip(edit.gold, said.met, strict=True)]
    figures: dict[str, float] = {"judged": len(edits)}
    if edits:
        figures["parsed"] = fmean(float(said.score is not None) for said in judged)
    if checks:
        figures["principle_accuracy"] = fmean(float(gold == met) for gold, met in checks)
    recalls = [[float(met == gold) for gold, met in checks if gold is truth] for truth in (True, False)]
    if all(recalls):
        figures["principle_balanced_accuracy"] = fmean(map(fmean, recalls))
    return figures | _pair_figures(pairs)


def _pair_figures(judged: Sequence[tuple[HeldOutEdit, Judged]]) -> dict[str, float]:
    margins, failed = [], 0
    groups: dict[str, list[tuple[float, float | None]]] = {}
    for edit, said in judged:
        groups.setdefault(edit.context, []).append((edit.worth, said.score))
    for group in groups.values():
        for (worth, score), (other_worth, other_score) in combinations(group, 2):
            if worth == other_worth:
                continue
            if score is None or other_score is None:
                failed += 1
            else:
                margins.append(score - other_score if worth > other_worth else other_score - score)
    figures: dict[str, float] = {"pairs": len(margins), "pairs_failed": failed}
    if margins:
        figures["pair_accuracy"] = fmean(float(margin > 0) for margin in margins)
        figures["pair_ties"] = fmean(float(margin == 0) for margin in margins)
    return figures
