"""One pass over an answer that finds its parts: JSON values, `<score>` tags, and thoughts to leave out.

Tags inside the texts of a JSON value are not tags, brackets inside a `<think>` block are drafts: that is why this is
one scanner and not a set of searches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from editr1.verifier.loose_json import LooseJsonError, read_value

_MAX_BROKEN = 64
"""Brackets that may fail to open a value before the rest is given up: bounds the time for garbage."""

_MARK = re.compile(
    r"(?P<bracket>[\[{])"
    r"|(?P<think><\s*think(?:ing)?\s*>)"
    r"|(?P<unthink><\s*/\s*think(?:ing)?\s*>)"
    r"|(?P<score><\s*score\s*>)"
    r"|(?P<unscore><\s*[/\\]+\s*score\s*>?|<\s*score\s*/\s*>)",
    re.IGNORECASE,
)
_THINK_TAG = re.compile(r"<\s*/?\s*think(?:ing)?\s*>", re.IGNORECASE)
_OPEN_FENCE = re.compile(r"```\w*\s*$")


@dataclass(frozen=True, slots=True)
class Value:
    """A JSON array or object at `text[start:end]`."""

    start: int
    end: int
    data: Any


@dataclass(frozen=True, slots=True)
class ScoreTag:
    """An opening or closing `<score>` tag at `text[start:end]`."""

    start: int
    end: int
    opens: bool


@dataclass(slots=True)
class Scan:
    """The parts of an answer, thoughts left out, in order.

    Attributes:
        broken: why the first bracket that looked like JSON could not be read.
        unfinished: whether such a bracket, or a thought, was still open at the end of the text.
    """

    text: str
    values: list[Value] = field(default_factory=list)
    tags: list[ScoreTag] = field(default_factory=list)
    broken: str | None = None
    unfinished: bool = False

    def forget(self) -> None:
        """Drop all parts found so far: they were thoughts."""
        self.values.clear()
        self.tags.clear()
        self.broken, self.unfinished = None, False

    def prose_before(self, end: int) -> str:
        """The text up to `end`, without the tags of thoughts and without the fence that opens at its end."""
        prose = _THINK_TAG.sub("", self.text[:end]).rstrip()
        return _OPEN_FENCE.sub("", prose).strip()


def scan(text: str) -> Scan:
    """Find the parts of an answer.

    `<think>…</think>` is left out, and so is all that comes before a closing tag which nothing opened (chat
    templates may put the opening tag into the prompt).
    """
    found = Scan(text)
    position, failures, thinking = 0, 0, False
    while mark := _MARK.search(text, position):
        position = mark.end()
        kind = mark.lastgroup
        if kind == "unthink":
            if not thinking:
                found.forget()
            thinking = False
        elif thinking:
            continue
        elif kind == "think":
            thinking = True
        elif kind != "bracket":
            found.tags.append(ScoreTag(mark.start(), mark.end(), opens=kind == "score"))
        elif failures < _MAX_BROKEN:
            try:
                data, position = read_value(text, mark.start())
                found.values.append(Value(mark.start(), position, data))
            except LooseJsonError as exc:
                failures += 1
                found.unfinished |= exc.at_end
                found.broken = found.broken or (str(exc) if _looks_like_json(text, mark.start()) else None)
    found.unfinished |= thinking
    return found


def _looks_like_json(text: str, start: int) -> bool:
    """Whether a bracket that cannot be read was meant as data, and is no bracket in prose."""
    return re.match(r"[\[{]\s*[\[{\"'“‘]", text[start : start + 20]) is not None
