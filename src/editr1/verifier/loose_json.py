"""A reader of the JSON that language models write: forgiving of form, never of substance.

Strict JSON is read by `json`. What fails there is read by a small recursive-descent reader that also takes single,
curly and unescaped inner quotes, raw line breaks, Python's True/False/None, bare keys, trailing commas, commas
missing between objects, and full-width punctuation. Neither ever invents a value: what cannot be read is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

MAX_DEPTH = 16
"""Deeper nesting is no answer to any of our questions, and would exhaust the stack."""


class LooseJsonError(ValueError):
    """Text that cannot be read; `at_end` tells whether it simply stopped too early."""

    def __init__(self, message: str, *, at_end: bool = False) -> None:
        super().__init__(message)
        self.at_end = at_end


def read_value(text: str, start: int) -> tuple[Any, int]:
    """Read the array or object that begins at `start`.

    Returns:
        The value, of dict, list, str, int, float, bool and None (NaN and infinities are floats, as stated), and the
        index behind it.

    Raises:
        LooseJsonError: if it cannot be read, or an object states one key twice with different values.
    """
    try:
        return _STRICT.raw_decode(text, start)
    except RecursionError:
        raise LooseJsonError("nested too deeply") from None
    except LooseJsonError:
        raise
    except ValueError:  # malformed, or an integer of thousands of digits
        return _Reader(text, start).read()


def _merge(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of the pairs; a key that comes twice must come with the same value."""
    merged: dict[str, Any] = {}
    for key, value in pairs:
        if key in merged and merged[key] != value:
            raise LooseJsonError(f"key {key!r} has two values")
        merged[key] = value
    return merged


_STRICT = json.JSONDecoder(strict=False, object_pairs_hook=_merge)

_DOUBLE, _SINGLE = '"“”„‟«»＂', "'‘’‚‛`´"
# Which quotes close a text that one of them opens: a straight one itself, any other the whole of its family.
_OPENERS = {q: q if q in "\"'" else family for family in (_DOUBLE, _SINGLE) for q in family}
_SPACE = re.compile(r"[\s\u200b\ufeff]*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][\w-]*")
_WORDS = {
    "true": True,
    "false": False,
    "yes": "yes",
    "no": "no",
    "null": None,
    "none": None,
    "nan": float("nan"),
    "infinity": float("inf"),
    "inf": float("inf"),
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
# A comma behind a closing quote leads on to a key, a value or a closing bracket; one inside a text, to more words.
_AFTER_COMMA = re.compile(rf"[\s]*(?:[{_DOUBLE}{_SINGLE}\]\}}\{{\[]|\w+\s*[:：]|[-+]?[0-9.]+\s*[,\]]|$)")


class _Reader:
    """Reads one value from `text`, beginning at `position`."""

    def __init__(self, text: str, position: int) -> None:
        self.text = text
        self.position = position

    def read(self) -> tuple[Any, int]:
        return self.value(0), self.position

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position
        return self.text[self.position : self.position + 1]

    def fail(self, wanted: str) -> LooseJsonError:
        found = self.peek()
        return LooseJsonError(f"expected {wanted}, found {found or 'the end'}", at_end=not found)

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise LooseJsonError("nested too deeply")
        char = self.peek()
        if char == "{":
            return self.object(depth)
        if char == "[":
            return self.array(depth)
        if char in _OPENERS and char:
            return self.string()
        if number := _NUMBER.match(self.text, self.position):
            self.position = number.end()
            return self.number(number.group())
        return self.word()

    def object(self, depth: int) -> dict[str, Any]:
        pairs = []
        self.position += 1
        while self.peek() != "}":
            key = self.key()
            if self.peek() not in (":", "："):
                raise self.fail("a colon")
            self.position += 1
            pairs.append((key, self.value(depth + 1)))
            if self.peek() in (",", "，"):
                self.position += 1
            elif self.peek() != "}":
                raise self.fail("a comma or }")
        self.position += 1
        return _merge(pairs)

    def array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.position += 1
        while self.peek() != "]":
            items.append(self.value(depth + 1))
            follow = self.peek()
            if follow in (",", "，"):
                self.position += 1
            elif follow != "]" and not (follow == "{" and isinstance(items[-1], dict)):
                raise self.fail("a comma or ]")
        self.position += 1
        return items

    def key(self) -> str:
        if self.peek() in _OPENERS:
            return self.string()
        word = re.compile(r"\w+").match(self.text, self.position)
        if not word:
            raise self.fail("a key")
        self.position = word.end()
        return word.group()

    def string(self) -> str:
        """A quoted text. A quote closes it only where the structure can go on behind it."""
        closers = _OPENERS[self.text[self.position]]
        self.position += 1
        parts: list[str] = []
        while self.position < len(self.text):
            char = self.text[self.position]
            self.position += 1
            if char == "\\":
                parts.append(self.escape())
            elif char in closers and self.closes():
                return "".join(parts)
            else:
                parts.append(char)
        raise LooseJsonError("a text without an end", at_end=True)

    def closes(self) -> bool:
        """Whether the structure can go on at the position, behind a quote."""
        space = _SPACE.match(self.text, self.position)
        end = space.end() if space else self.position
        follow = self.text[end : end + 1]
        if follow in (",", "，"):
            return _AFTER_COMMA.match(self.text, end + 1) is not None
        return follow in ("", ":", "：", "]", "}")

    def escape(self) -> str:
        char = self.text[self.position : self.position + 1]
        self.position += 1
        if char == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", code := self.text[self.position : self.position + 4]):
            self.position += 4
            return chr(int(code, 16)) if not 0xD800 <= int(code, 16) < 0xE000 else "�"
        return _ESCAPES.get(char, char)

    def number(self, digits: str) -> int | float:
        if re.fullmatch(r"[+-]?\d{1,18}", digits):
            return int(digits)
        return float(digits)

    def word(self) -> Any:
        word = _WORD.match(self.text, self.position)
        if word and word.group().lower() in _WORDS:
            self.position = word.end()
            return _WORDS[word.group().lower()]
        raise self.fail("a value")
