"""Best of N and filtering: which judged edits are worth keeping, and why each of the others is not.

The rules are applied in this order: edits without a verdict go; then those that break a rule on score or principles;
of what is left, the best of each context stay; of these, the best share of all.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editr1.errors import ConfigError, DataError
from editr1.types import Category, Check, EditVerdict


@dataclass(frozen=True, slots=True)
class Judged:
    """An edit with its verdict.

    Attributes:
        context: equal for edits of one source picture and instruction.
        row: what the data says of the edit.
    """

    id: str
    context: str
    verdict: EditVerdict
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What an edit must have to be kept; None or empty asks for nothing.

    Attributes:
        min_score: final score in [0, 10].
        min_met: share of principles met, in [0, 1].
        families: categories of which every principle must be met.
        questions: regular expressions; each principle whose question one of them finds must be met.
        best: how many edits of each context stay.
        top: share of all edits with a verdict, in (0, 1], that stays at most.
    """

    min_score: float | None = None
    min_met: float | None = None
    families: tuple[Category, ...] = ()
    questions: tuple[str, ...] = ()
    best: int | None = None
    top: float | None = None

    def __post_init__(self) -> None:
        if self.best is not None and self.best < 1:
            raise ConfigError(f"at least the best 1 of each context must stay, got {self.best}")
        if self.top is not None and not 0 < self.top <= 1:
            raise ConfigError(f"the share that stays must be above 0 and at most 1, got {self.top}")
        for question in self.questions:
            try:
                re.compile(question)
            except re.error as exc:
                raise ConfigError(f"{question!r} is no regular expression: {exc}") from exc

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == Rules()


@dataclass(frozen=True, slots=True)
class Selected:
    """An edit, whether it is kept, and why, in half a sentence."""

    judged: Judged
    kept: bool
    why: str


def select(edits: Sequence[Judged], rules: Rules) -> list[Selected]:
    """Apply the rules: same length, same order.

    Of equal scores the one with more principles met comes first, then the earlier one. An edit without a principle of
    a category or question that is asked for breaks no rule by that, and the reason to keep it says so.

    Raises:
        ConfigError: if no edit at all has such a principle.
    """
    _refuse_idle(edits, rules)
    why: dict[int, str] = {}
    for index, edit in enumerate(edits):
        if reason := _fault(edit.verdict, rules):
            why[index] = reason
    left = [i for i in range(len(edits)) if i not in why]
    kept: dict[int, str] = {i: _told(edits[i], rules) for i in left}
    if rules.best is not None:
        contexts: dict[str, list[int]] = defaultdict(list)
        for i in left:
            contexts[edits[i].context].append(i)
        for members in contexts.values():
            ranked = sorted(members, key=lambda i: _rank(edits[i]))
            for place, i in enumerate(ranked, start=1):
                told = f"place {place} of {len(ranked)} of its context, {_told(edits[i], rules)}"
                if place <= rules.best:
                    kept[i] = told
                else:
                    why[i] = f"{told}; the best has {_score(edits[ranked[0]]):.1f}"
                    del kept[i]
    if rules.top is not None:
        room = math.floor(rules.top * sum(e.verdict.ok for e in edits) + 1e-9)
        for i in sorted(kept, key=lambda i: _rank(edits[i]))[room:]:
            why[i] = f"score {_score(edits[i]):.1f} is not in the top {rules.top:.0%}"
            del kept[i]
    return [Selected(e, i in kept, kept[i] if i in kept else why[i]) for i, e in enumerate(edits)]


def read_judged(path: str | Path) -> list[Judged]:
    """The edits of a file of verdicts, as `editr1 score --out` writes it.

    A picture that was given as bytes is not in it: then the context is told by the id up to its last "/".

    Raises:
        DataError: if it cannot be read, or holds nothing.
    """
    path = Path(path)
    found = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"cannot read the verdicts in {path}: {getattr(exc, 'strerror', None) or exc}") from exc
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            verdict = EditVerdict.from_dict(row)
            identity = str(row["id"])
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DataError(f"{path}:{number} is no verdict: name a file that editr1 score --out wrote") from exc
        found.append(Judged(identity, _context(row, identity, path), verdict, row))
    if not found:
        raise DataError(f"{path} holds no verdicts")
    return found


def as_row(selected: Selected, folder: Path, out: Path) -> dict[str, Any]:
    """A row that `editr1 score` and the trainers read, its paths relative to the file that it goes into.

    Args:
        selected: what to write.
        folder: that the paths in the row are relative to.
        out: folder of the file written.
    """
    import os

    judged, row = selected.judged, dict(selected.judged.row)
    data: dict[str, Any] = {"id": judged.id}
    for key in ("source", "edited"):
        if row.get(key):
            data[key] = Path(os.path.relpath(folder / row[key], out)).as_posix()
    data |= {key: row[key] for key in ("instruction", "kind", "editor", "truth") if row.get(key) is not None}
    if judged.verdict.checks:
        data["principles"] = [c.principle.to_dict() for c in judged.verdict.checks]
    verdict = judged.verdict
    return data | {
        "status": verdict.status.value,
        "score": verdict.score,
        "average_score": verdict.average_score,
        "why": selected.why,
    }


def _context(row: Mapping[str, Any], identity: str, path: Path) -> str:
    source, instruction = row.get("source"), row.get("instruction", "")
    if source:
        return f"{(path.parent / source).resolve()}\x00{instruction}"
    group, slash, _ = identity.rpartition("/")
    if not slash:
        raise DataError(f"{path}: {identity} names no source picture, so that its context is not known")
    return f"{group}\x00{instruction}"


def without_principle(edits: Sequence[Selected], rules: Rules) -> dict[str, int]:
    """Of the edits that are kept, how many have no principle of a category or question that is asked for."""
    kept = [e.judged for e in edits if e.kept]
    counts = {what: sum(what in _lacking(e, rules) for e in kept) for what in _wanted(rules)}
    return {what: number for what, number in counts.items() if number}


def _wanted(rules: Rules) -> dict[str, Rules]:
    """Each category and question that is asked for, by itself, and what it is called."""
    return {c.short: Rules(families=(c,)) for c in rules.families} | {
        repr(q): Rules(questions=(q,)) for q in rules.questions
    }


def _lacking(edit: Judged, rules: Rules) -> list[str]:
    checks = edit.verdict.checks or ()
    return [what for what, one in _wanted(rules).items() if not any(_needed(check, one) for check in checks)]


def _refuse_idle(edits: Sequence[Judged], rules: Rules) -> None:
    judged = [e for e in edits if e.verdict.ok]
    for what in _wanted(rules):
        if judged and all(what in _lacking(e, rules) for e in judged):
            raise ConfigError(f"no edit has a principle that {what} asks for: look at the questions in the verdicts")


def _told(edit: Judged, rules: Rules) -> str:
    lacking = _lacking(edit, rules)
    return f"score {_score(edit):.1f}" + (f", no principle of {' and '.join(lacking)}" if lacking else "")


def _fault(verdict: EditVerdict, rules: Rules) -> str:
    """Which rule an edit breaks; empty if none."""
    if verdict.score is None or verdict.average_score is None:
        return f"no verdict ({verdict.status.value})"
    if rules.min_score is not None and verdict.score < rules.min_score:
        return f"score {verdict.score:.1f} is below {rules.min_score:g}"
    if rules.min_met is not None and verdict.average_score < rules.min_met:
        return f"{verdict.average_score:.0%} of the principles are met, less than {rules.min_met:.0%}"
    for check in verdict.checks or ():
        if not check.met and _needed(check, rules):
            reason = f": {check.reason}" if check.reason else ""
            return f"{check.principle.category.short}: {check.principle.question} No{reason}"
    return ""


def _needed(check: Check, rules: Rules) -> bool:
    if check.principle.category in rules.families:
        return True
    return any(re.search(q, check.principle.question, re.IGNORECASE) for q in rules.questions)


def _score(edit: Judged) -> float:
    assert edit.verdict.score is not None
    return edit.verdict.score


def _rank(edit: Judged) -> tuple[float, float]:
    """Smaller is better; sorting is stable."""
    return (-_score(edit), -(edit.verdict.average_score or 0.0))
