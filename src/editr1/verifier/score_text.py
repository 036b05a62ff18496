"""The number that stands between `<score>` tags: digits, words, or so many out of ten."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from editr1.errors import VerdictParseError
from editr1.judges.base import ChatReply, ReplyStatus
from editr1.verifier.scan import ScoreTag, scan

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = {word: value for value, word in enumerate(_DIGITS)} | {"nought": 0}
_WORD = "|".join(_WORDS)
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*|,[0-9]{1,2})?|\.[0-9]+)"
_NOT_FINITE = r"[+-]?(?:nan|inf|infinity)"
_LABEL = r"(?:(?:the\s+)?(?:final\s+|overall\s+)?(?:score|rating)\s*(?:is|:|=)?\s*)?"
_SCALE = r"(?:\s*(?:/|out\s+of|of)\s*(?P<scale>\w+(?:\.0+)?))?"
_UNIT = r"(?:\s*(?:points?|pts))?"
_WHOLE = re.compile(
    rf"{_LABEL}(?:(?P<number>{_NUMBER}|{_NOT_FINITE})"
    rf"|(?P<word>{_WORD})(?P<rest>\s+and\s+a\s+half|(?:\s+point(?P<decimals>(?:\s+(?:{_WORD}))+)))?)"
    rf"{_SCALE}{_UNIT}"
)
_ANY_NUMBER = re.compile(rf"\d|\b(?:{_WORD}|nan|inf|infinity)\b")
_ORNAMENT = " \t\r\n*_`'\"“”‘’~:=;!()[]#"


def read_score(text: str) -> float:
    """The score in [0, 10] that a text states: "7", "7.5", "7,5", "7/10", "7 out of 10", "seven and a half".

    Raises:
        VerdictParseError: "no score" if the text is not one number and nothing else; "score out of range" if it is
            not in [0, 10], not finite, or stated on another scale.
    """
    plain = text.strip(_ORNAMENT).rstrip(_ORNAMENT + ".,").casefold().replace("-and-", " and ")
    match = _WHOLE.fullmatch(re.sub(r"(?<=[a-z])-(?=[a-z])", " ", plain))
    if not match:
        raise VerdictParseError("no score", f"{_short(text)} is not a number from 0 to 10")
    if match["scale"] and match["scale"].split(".")[0] not in ("10", "ten"):
        raise VerdictParseError("score out of range", f"{_short(text)} is not on a scale to 10")
    value = float(match["number"].replace(",", ".")) if match["number"] else _spoken(match)
    if not (math.isfinite(value) and 0 <= value <= 10):
        raise VerdictParseError("score out of range", f"{_short(text)} is not in [0, 10]")
    return value + 0.0  # -0.0 becomes 0.0


def read_final_score(reply: ChatReply) -> float:
    """The one score in [0, 10] that an answer states between `<score>` tags; of checks none is looked for.

    Raises:
        VerdictParseError: if the answer is cut off or empty, states no score, or several.
    """
    if reply.status is ReplyStatus.TRUNCATED:
        raise VerdictParseError("truncated", "the answer hit the token limit")
    if not reply.text.strip():
        raise VerdictParseError("empty")
    stated = {score for _, score in tagged_scores(reply.text, scan(reply.text).tags)}
    if len(stated) != 1:
        raise VerdictParseError("conflicting scores" if stated else "no score", f"{len(stated)} scores are stated")
    return stated.pop()


def tagged_scores(text: str, tags: Sequence[ScoreTag]) -> list[tuple[int, float]]:
    """All scores stated with `<score>` tags, as (position, value).

    What stands between an opening tag and the next tag is a statement, whether that next tag closes rightly or is
    a second opening one; without a next tag, the rest of the line is, if something follows it: a 1 that ends the
    text may be the first half of a 10. Tags around words without any number are mentions of the format, not statements.

    Raises:
        VerdictParseError: if a statement holds a number but cannot be read as one score.
    """
    scores: list[tuple[int, float]] = []
    closes_last = False  # an opening tag right behind a statement may be that statement's wrongly written end
    for index, tag in enumerate(tags):
        if not tag.opens:
            closes_last = False
            continue
        if index + 1 < len(tags):
            content = text[tag.end : tags[index + 1].start]
        else:
            content = text[tag.end :].lstrip(_ORNAMENT).split("\n")[0].split("<")[0]
            if not closes_last and _ends_in(text, content):
                raise VerdictParseError("truncated", f"the answer ends within its score: {_short(content)}")
        try:
            scores.append((tag.start, read_score(content)))
            closes_last = True
        except VerdictParseError as exc:
            out_of_range = exc.fault == "score out of range"
            if _ANY_NUMBER.search(content.casefold()) and (out_of_range or not closes_last):
                raise
            closes_last = False
    return scores


def _ends_in(text: str, content: str) -> bool:
    """Whether a text ends with a statement of a number that could go on."""
    stated = _ANY_NUMBER.search(content.casefold())
    return bool(stated) and text.endswith(content) and content[-1] not in _ORNAMENT


def _spoken(match: re.Match[str]) -> float:
    value = float(_WORDS[match["word"]])
    if match["decimals"]:
        digits = "".join(str(_WORDS[word]) for word in match["decimals"].split())
        return float(f"{value:.0f}.{digits}")
    return value + 0.5 if match["rest"] else value


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else text[:40] + "…")
