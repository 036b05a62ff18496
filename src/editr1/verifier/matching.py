"""Which principle an answer's item is about: by its question's text, by its number, or by both.

Models re-order questions, number them anew and re-word them a little. A text that is the principle's own decides;
a re-worded one must be close to exactly one principle, and must not differ in a word that makes it another question.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher

from editr1.errors import VerdictParseError
from editr1.types import Category, Principle

_CLOSE = 0.85
"""Least similarity of a re-worded question (1 is equal)."""

_CLOSE_NUMBERED = 0.6
"""The same where the item's number names the principle as well."""

_LEAD = 0.05
"""By how much the best match must lead the second."""

_TELLING = frozenset(
    word
    for line in (
        "not no never without none nothing neither nor cannot",
        "left right top bottom above below up down upper lower inside outside front behind before after",
        "more less fewer bigger smaller larger longer shorter brighter darker warmer cooler same different",
        "red orange yellow green blue purple violet pink brown black white grey gray gold golden silver",
        "zero one two three four five six seven eight nine ten first second third",
        "add added remove removed removal gone still unchanged all any only both",
    )
    for word in line.split()
)
"""Words that turn a question into another one when they come, go or change."""

_NUMBERING = re.compile(r"^\s*\(?(?:q|question|p|principle)?\s*#?\d{1,3}\s*[.):-]\s*", re.IGNORECASE)
_BRACKETED = re.compile(r"^\s*\[([^\]]{1,40})\]\s*")
_TOKEN = re.compile(r"\w+(?:'\w+)*")


def normalise(question: str) -> str:
    """A question's words, without case, punctuation, numbering and a category in brackets before it."""
    text = unicodedata.normalize("NFKC", question).replace("’", "'")
    text = _NUMBERING.sub("", text)
    if (prefix := _BRACKETED.match(text)) and _is_category(prefix[1]):
        text = text[prefix.end() :]
    return " ".join(_TOKEN.findall(text.casefold())) or text.strip()


class Matcher:
    """Finds the principle that an item is about."""

    def __init__(self, principles: Sequence[Principle]) -> None:
        self._texts = [normalise(p.question) for p in principles]

    def index(self, question: str | None, number: int | None) -> int:
        """Index of the principle that a question, a number (from 1), or both name.

        Raises:
            VerdictParseError: "unknown question" if they name none, or not one alone.
        """
        by_number = number - 1 if number is not None and 1 <= number <= len(self._texts) else None
        if not question or not (text := normalise(question)):
            if by_number is None:
                raise VerdictParseError("unknown question", f"item number {number} of {len(self._texts)} principles")
            return by_number
        same = [i for i, other in enumerate(self._texts) if other == text]
        if len(same) == 1:
            return same[0]  # even under another number: a model that re-orders may number anew
        if by_number in same:
            return by_number  # type: ignore[return-value]  # `same` holds no None
        return self._closest(text, question, by_number, number is not None)

    def _closest(self, text: str, question: str, by_number: int | None, numbered: bool) -> int:
        """The principle of which a text is a re-wording."""
        scores = [_similarity(text, other) for other in self._texts]
        best = max(range(len(scores)), key=scores.__getitem__)
        second = max((s for i, s in enumerate(scores) if i != best), default=0.0)
        agrees = best == by_number
        if numbered and by_number is not None and not agrees:
            raise VerdictParseError("unknown question", f"{question!r} is not principle {by_number + 1}")
        if scores[best] < (_CLOSE_NUMBERED if agrees else _CLOSE):
            raise VerdictParseError("unknown question", f"{question!r} is none of the principles")
        if not agrees and scores[best] - second < _LEAD:
            raise VerdictParseError("unknown question", f"{question!r} may be more than one of the principles")
        if _telling(text) != _telling(self._texts[best]):
            raise VerdictParseError("unknown question", f"{question!r} asks something else than its principle")
        return best


def _similarity(a: str, b: str) -> float:
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.real_quick_ratio() < _CLOSE_NUMBERED or matcher.quick_ratio() < _CLOSE_NUMBERED:
        return 0.0
    return matcher.ratio()


def _telling(text: str) -> list[str]:
    """The words of a normalised text that must not differ, sorted."""
    return sorted("not" if w.endswith("n't") else w for w in text.split() if _is_telling(w))


def _is_telling(word: str) -> bool:
    return word in _TELLING or word.endswith("n't") or any(c.isdigit() for c in word)


def _is_category(text: str) -> bool:
    try:
        Category.parse(text)
    except ValueError:
        return False
    return True
