"""Parse: from the text of an answer to a verdict, by rule (the paper's Phi, section 3.2).

Forgiving of form, strict on substance: a whole verdict comes out or `VerdictParseError` does, never a number that
the text does not state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editr1.errors import DecomposeError, VerdictParseError
from editr1.types import Category, Check, EditVerdict, Principle, VerdictStatus
from editr1.verifier.matching import Matcher, normalise
from editr1.verifier.scan import Scan, Value, scan
from editr1.verifier.score_text import read_score, tagged_scores

__all__ = ["VerdictParseError", "parse_principles", "parse_verdict"]

_NUMBER_KEYS = ("id", "number", "index", "no", "num", "question_id", "principle_id")
_QUESTION_KEYS = ("question", "principle", "criterion", "query")
_MET_KEYS = ("score", "met", "answer", "result", "value", "verdict", "satisfied", "passed", "pass")
_REASON_KEYS = ("reason", "reasoning", "explanation", "rationale", "comment", "analysis", "evidence", "why")
_AVERAGE_KEYS = ("average_score", "average", "avg_score", "mean_score")
_FINAL_KEYS = ("final_score", "score")
_YES = {"1", "1.0", "true", "yes", "met", "y"}
_NO = {"0", "0.0", "false", "no", "not met", "unmet", "n"}


@dataclass(frozen=True, slots=True)
class _Item:
    """What an answer says about one principle, not yet matched to it."""

    question: str | None
    number: int | None
    met: bool
    reason: str


def parse_verdict(text: str, principles: Sequence[Principle], *, truncated: bool = False) -> EditVerdict:
    """Read the verdict that an answer states.

    The answer holds, in this order, reasoning, an object for each principle (in a JSON list or not), and the final
    score between `<score>` tags. `<think>` blocks are reasoning: drafts in them do not count. The average is
    computed from the checks; one that the answer states is not trusted to be right, and only has to be finite.

    Args:
        text: the judge's whole answer.
        principles: the questions that were asked; the checks come in their order, whatever order the answer has.
        truncated: the judge ran into its token limit: whatever the text holds, it is no whole answer.

    Raises:
        VerdictParseError: if the text holds no whole, unambiguous verdict; its `fault` says what is wrong.
        ValueError: if there are no principles.
    """
    if not principles:
        raise ValueError("a verdict needs at least one principle")
    if not text.strip():
        raise VerdictParseError("empty", "the answer has no text")
    if truncated:
        raise VerdictParseError("truncated", "the answer ran into the token limit")
    found = scan(text)
    start, end, items = _all_items(found)
    checks = _match(items, principles, found)
    score = _final_score(found, after=end)
    return EditVerdict(
        status=VerdictStatus.OK,
        checks=checks,
        average_score=sum(check.met for check in checks) / len(checks),
        score=score,
        reasoning=_printable(found.prose_before(start)),
    )


def parse_principles(text: str, *, min_count: int = 3, max_count: int = 20) -> tuple[Principle, ...]:
    """Read the principles that a decomposition states, as tolerant of form as `parse_verdict`.

    Of several lists the last counts (the others were drafts); a question that comes twice is kept once.

    Args:
        text: the whole answer: a JSON array of {question, category}, or such objects by themselves.
        min_count: fewer distinct questions than this are an error.
        max_count: more than this are an error.

    Raises:
        DecomposeError: if an entry is incomplete, a category unknown, the number of questions out of bounds, or
            none of them asks whether the instruction was followed.
    """
    found = scan(text)
    rows = _principle_rows(found)
    if not rows:
        why = f" ({found.broken})" if found.broken else ", it may be cut off" if found.unfinished else ""
        raise DecomposeError(f"the answer holds no JSON list of questions and categories{why}")
    principles: dict[str, Principle] = {}
    for row in rows:
        try:
            principle = Principle.from_dict({**row, "question": _printable(str(row["question"] or ""))})
        except ValueError as exc:
            raise DecomposeError(str(exc)) from None
        principles.setdefault(normalise(principle.question), principle)
    if not min_count <= len(principles) <= max_count:
        raise DecomposeError(f"{len(principles)} distinct questions: between {min_count} and {max_count} were wanted")
    if all(p.category is not Category.FOLLOW for p in principles.values()):
        raise DecomposeError("none of the questions asks whether the instruction was followed")
    return tuple(principles.values())


def _principle_rows(found: Scan) -> list[dict[str, Any]]:
    """The entries of the last list that holds any, or else all entries outside lists."""
    lists, single = [], []
    for value in found.values:
        data = value.data
        if isinstance(data, dict) and {"question", "category"} <= data.keys():
            single.append(data)
            continue
        for candidate in [data] if isinstance(data, list) else data.values():
            rows = [r for r in candidate if isinstance(r, dict)] if isinstance(candidate, list) else []
            if any("question" in row for row in rows):
                lists.append([{"question": None, "category": None, **row} for row in rows])
    return lists[-1] if lists else single


def _all_items(found: Scan) -> tuple[int, int, list[_Item]]:
    """Where the checks begin and end, and all of them."""
    start, end, items = None, 0, []
    for value in found.values:
        own = list(_items(value.data))
        if own:
            start, end = value.start if start is None else start, value.end
        items += own
    if start is None:
        fault = "truncated" if found.unfinished else "bad json" if found.broken else "no checks"
        raise VerdictParseError(fault, found.broken or "no object of the answer names a principle and its 0 or 1")
    return start, end, items


def _items(data: Any, number: int | None = None) -> Iterator[_Item]:
    """All items in a value, however deep; `number` is the key that it was found under, if that was one."""
    if isinstance(data, dict):
        _refuse_non_finite_average(data)
        if _is_item(data, number):
            yield _item(data, number)
            return
        for key, value in data.items():
            yield from _items(value, _as_number(key))
    elif isinstance(data, list):
        rows = [row for row in data if isinstance(row, dict)]
        in_list = any(_is_item(row) for row in rows)
        for row in rows:
            # Among checks, an object that is none is a check that went wrong, the average excepted.
            if in_list and not any(key in row for key in _AVERAGE_KEYS):
                yield _item(row)
            else:
                yield from _items(row)


def _is_item(data: Mapping[str, Any], number: int | None = None) -> bool:
    """Whether an object says which principle it is about, and whether that is met."""
    named = number is not None or any(key in data for key in (*_NUMBER_KEYS, *_QUESTION_KEYS))
    return named and any(key in data and not isinstance(data[key], dict | list) for key in _MET_KEYS)


def _item(data: Mapping[str, Any], number: int | None = None) -> _Item:
    question = None
    for key in _QUESTION_KEYS:
        value = data.get(key)
        if isinstance(value, str) and _as_number(value) is None:
            question = question or value
        elif number is None:
            number = _as_number(value)
    for key in _NUMBER_KEYS:
        number = _as_number(data.get(key)) if number is None else number
    if question is None and number is None:
        raise VerdictParseError("unknown question", f"an item names no principle: {_short(dict(data))}")
    reason = next((data[key] for key in _REASON_KEYS if isinstance(data.get(key), str)), "")
    return _Item(question, number, _met(data), _printable(reason).strip())


def _met(data: Mapping[str, Any]) -> bool:
    """The 0 or 1 of an item. Further keys that state one too must agree; free text under them does not matter."""
    stated = [data[key] for key in _MET_KEYS if key in data]
    met = _as_bool(stated[0]) if stated else None
    if met is None:
        raise VerdictParseError("bad check value", f"neither 0 nor 1: {_short(stated[0] if stated else dict(data))}")
    if any(_as_bool(other) not in (met, None) for other in stated[1:]):
        raise VerdictParseError("bad check value", f"both 0 and 1: {_short(dict(data))}")
    return met


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        word = value.strip().strip("*_.").casefold()
        return True if word in _YES else False if word in _NO else None
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    return None


def _as_number(value: Any) -> int | None:
    """A number by which a principle was named: 3, "3", "Q3", "#3."."""
    if isinstance(value, str):
        digits = value.strip().lstrip("QqPp#").rstrip(".):")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 9999:
        return None
    return int(value) if value == int(value) else None


def _match(items: Sequence[_Item], principles: Sequence[Principle], found: Scan) -> tuple[Check, ...]:
    """The items as checks in the principles' order, each principle once."""
    matcher = Matcher(principles)
    checks: dict[int, Check] = {}
    for item in items:
        index = matcher.index(item.question, item.number)
        if index in checks and checks[index].met != item.met:
            question = principles[index].question
            raise VerdictParseError("duplicate question", f"{question!r} is answered with both 0 and 1")
        checks[index] = Check(principles[index], item.met, item.reason)
    if missing := [p.question for i, p in enumerate(principles) if i not in checks]:
        fault = "truncated" if found.unfinished else "bad json" if found.broken else "missing question"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise VerdictParseError(fault, f"no check of {missing[0]!r}{more}")
    return tuple(checks[i] for i in range(len(principles)))


def _final_score(found: Scan, *, after: int) -> float:
    """The one final score.

    At least one statement must come behind the checks: a score in the reasoning may be quoted, for example from an
    instruction, and one between checks may be a check's own. All statements must agree, those in the reasoning and in
    JSON included.
    """
    tagged = tagged_scores(found.text, found.tags)
    if not any(position >= after for position, _ in tagged):
        where = "before the last check only" if tagged else "nowhere"
        raise VerdictParseError("no score", f"a score between <score> tags is stated {where}")
    stated = {score for _, score in tagged} | set(_json_scores(found.values))
    if len(stated) > 1:
        raise VerdictParseError("conflicting scores", " and ".join(f"{s:g}" for s in sorted(stated)))
    return stated.pop()


def _json_scores(values: Sequence[Value]) -> Iterator[float]:
    """Final scores that objects beside the checks state, as in {"average_score": 0.5, "score": 6}."""
    beside = {*_AVERAGE_KEYS, *_FINAL_KEYS, *_REASON_KEYS}
    for value in values:
        data = value.data
        if not isinstance(data, dict) or not all(k in beside or isinstance(v, dict | list) for k, v in data.items()):
            continue
        for key in _FINAL_KEYS:
            stated = data.get(key)
            if isinstance(stated, int | float | str) and not isinstance(stated, bool):
                yield read_score(str(stated))


def _refuse_non_finite_average(data: Mapping[str, Any]) -> None:
    for key in _AVERAGE_KEYS:
        value = data.get(key)
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise VerdictParseError("bad check value", f"{key} is {value}")


def _printable(text: str) -> str:
    """The text without lone surrogates, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
