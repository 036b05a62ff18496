"""The nouns of the paper, as frozen types.

Images are held as references (`ImageLike`) until somebody needs pixels; `editr1.images.load_image` turns any of
them into an upright RGB picture.

Section numbers refer to "Leveraging Verifier-Based Reinforcement Learning in Image Editing" (Edit-R1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL import Image

ImageLike: TypeAlias = "Image.Image | Path | str | bytes | np.ndarray[Any, Any]"


class Category(StrEnum):
    """The three families of principles, with the names that the paper's data uses (section 3.1)."""

    FOLLOW = "Instruction Following"
    KEEP = "Feature Preservation"
    QUALITY = "Image Quality"

    @property
    def short(self) -> str:
        """`Follow`, `Keep` or `Quality`."""
        return self.name.capitalize()

    @classmethod
    def parse(cls, text: str) -> Category:
        """Read a category by its full or short name, in any case.

        Raises:
            ValueError: if the text names none of the three.
        """
        key = text.strip().lower()
        for member in cls:
            if key in (member.value.lower(), member.name.lower()):
                return member
        raise ValueError(f"unknown principle category {text!r}: use one of {', '.join(m.short for m in cls)}")


class EditKind(StrEnum):
    """The 11 task types of GEdit-Bench, with its names."""

    BACKGROUND = "background_change"
    COLOR = "color_alter"
    MATERIAL = "material_alter"
    MOTION = "motion_change"
    PORTRAIT = "ps_human"
    STYLE = "style_change"
    ADD = "subject-add"
    REMOVE = "subject-remove"
    REPLACE = "subject-replace"
    TEXT = "text_change"
    TONE = "tone_transfer"


class VerdictStatus(StrEnum):
    """What became of a judgement. Anything but `OK` has no score."""

    OK = "ok"
    UNPARSEABLE = "unparseable"  # answered, but not with a whole verdict (empty and truncated answers included)
    REFUSED = "refused"
    TIMEOUT = "timeout"
    ERROR = "error"  # the judge could not be reached, or the input could not be read


@dataclass(frozen=True, slots=True)
class Principle:
    """One yes/no question that a right edit answers with yes (section 3.1).

    Raises:
        ValueError: if the category is a text that names none.
    """

    question: str
    category: Category

    def __post_init__(self) -> None:
        if not isinstance(self.category, Category):  # Principle("Is it red?", "Follow")
            object.__setattr__(self, "category", Category.parse(str(self.category)))

    def to_dict(self) -> dict[str, str]:
        """`{"question", "category"}`, as in the paper's data."""
        return {"question": self.question, "category": self.category.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Principle:
        """Inverse of `to_dict`; short category names are read too.

        Raises:
            ValueError: if a key is missing, the question is empty or the category unknown.
        """
        try:
            question, category = data["question"], data["category"]
        except (KeyError, TypeError) as exc:
            raise ValueError(f"a principle needs 'question' and 'category', got {data!r}") from exc
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"a principle's question must be a non-empty string, got {question!r}")
        return cls(question.strip(), Category.parse(str(category)))


@dataclass(frozen=True, slots=True)
class EditTask:
    """A context: a reference picture and what is to be done with it (section 3)."""

    id: str
    source: ImageLike
    instruction: str
    principles: tuple[Principle, ...] | None = None
    kind: EditKind | None = None


@dataclass(frozen=True, slots=True)
class Quadruple:
    """What the verifier judges: (edited, source, instruction, principles), the last three being the task."""

    task: EditTask
    edited: ImageLike
    editor: str = ""

    @property
    def id(self) -> str:
        """The task's id, with the editor's name behind it if there is one."""
        return f"{self.task.id}/{self.editor}" if self.editor else self.task.id


@dataclass(frozen=True, slots=True)
class Check:
    """A principle, whether the edit meets it, and why."""

    principle: Principle
    met: bool
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """`{"question", "category", "met", "reason"}`."""
        return {**self.principle.to_dict(), "met": self.met, "reason": self.reason}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Check:
        """Inverse of `to_dict`."""
        return cls(Principle.from_dict(data), bool(data["met"]), str(data.get("reason", "")))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a judgement took; `cached` counts calls that an on-disk cache answered."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_dict(self) -> dict[str, int]:
        """All counts by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Usage:
        """Inverse of `to_dict`; counts that it does not know, or that are none, are left out."""
        given = {f.name: data.get(f.name) for f in fields(cls)}
        return cls(**{key: int(n) for key, n in given.items() if isinstance(n, int | float) and math.isfinite(n)})


@dataclass(frozen=True, slots=True)
class PassStats:
    """What N passes of a stochastic judge said: scores in 0-10, their spread, agreement per principle.

    `agreement[k]` is the share of passes, 0.5 to 1, that gave principle k its majority answer. `failed` counts
    passes without a verdict: they enter neither mean nor spread.
    """

    scores: tuple[float, ...]
    spread: float
    agreement: tuple[float, ...]
    failed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, JSON-ready."""
        return {
            "scores": list(self.scores),
            "spread": self.spread,
            "agreement": list(self.agreement),
            "failed": self.failed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PassStats:
        """Inverse of `to_dict`."""
        return cls(tuple(data["scores"]), data["spread"], tuple(data["agreement"]), data.get("failed", 0))


@dataclass(frozen=True, slots=True)
class EditVerdict:
    """A judgement of one edit, or the record of its failure.

    Attributes:
        status: `ok`, or the kind of failure; then `score`, `average_score` and `checks` are None.
        score: final score in [0, 10]; not the mean of the checks (section 3.2).
        average_score: share of principles met, in [0, 1].
        checks: one per principle, in the principles' order.
        reasoning: what the judge wrote before its checks.
        judge: name of the judge; `prompt_hash`: of the prompt template that it was asked with.
        usage, seconds: spent on all tries and passes together, kept for failures too.
        error: for a failure, what went wrong, in one sentence.
        passes: spread and agreement, when more than one pass was asked for.
        preprocessing: what was done to the pictures, e.g. "edited: resized 512x512 -> 1024x768".
    """

    status: VerdictStatus
    checks: tuple[Check, ...] | None = None
    average_score: float | None = None
    score: float | None = None
    reasoning: str = ""
    judge: str = ""
    prompt_hash: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    id: str | None = None
    error: str | None = None
    passes: PassStats | None = None
    preprocessing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = self.score is not None and self.average_score is not None and self.checks is not None
        if self.ok != whole or (not self.ok and (self.score, self.average_score, self.checks) != (None,) * 3):
            raise ValueError(f"a verdict has score and checks if and only if its status is ok, got {self.status}")
        if self.score is not None and not 0 <= self.score <= 10:
            raise ValueError(f"a score lies in [0, 10], got {self.score}")

    @property
    def ok(self) -> bool:
        """Whether there is a score."""
        return self.status is VerdictStatus.OK

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the keys of the documented wire format; optional parts only where present."""
        data: dict[str, Any] = {
            "id": self.id,
            "status": self.status.value,
            "score": self.score,
            "average_score": self.average_score,
            "checks": None if self.checks is None else [c.to_dict() for c in self.checks],
            "reasoning": self.reasoning,
            "judge": self.judge,
            "prompt_hash": self.prompt_hash,
            "usage": self.usage.to_dict(),
            "seconds": round(self.seconds, 4),
        }
        if self.error is not None:
            data["error"] = self.error
        if self.passes is not None:
            data["passes"] = self.passes.to_dict()
        if self.preprocessing:
            data["preprocessing"] = list(self.preprocessing)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EditVerdict:
        """Inverse of `to_dict`.

        Raises:
            ValueError, KeyError: if the data is no verdict.
        """
        checks, passes = data.get("checks"), data.get("passes")
        return cls(
            status=VerdictStatus(data["status"]),
            checks=None if checks is None else tuple(Check.from_dict(c) for c in checks),
            average_score=data.get("average_score"),
            score=data.get("score"),
            reasoning=data.get("reasoning", ""),
            judge=data.get("judge", ""),
            prompt_hash=data.get("prompt_hash", ""),
            usage=Usage.from_dict(data.get("usage") or {}),
            seconds=data.get("seconds", 0.0),
            id=data.get("id"),
            error=data.get("error"),
            passes=None if passes is None else PassStats.from_dict(passes),
            preprocessing=tuple(data.get("preprocessing", ())),
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """A judge's whole answer on one quadruple: the raw material of cold-start SFT (section 4)."""

    quadruple_id: str
    text: str
    verdict: EditVerdict
    judge: str
    variant: str = ""
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two edits of one context and which one an annotator preferred (section 5).

    When `same` is true the annotator saw no difference; such pairs are kept, but neither trained nor scored on.
    """

    task: EditTask
    preferred: ImageLike
    other: ImageLike
    same: bool = False
    annotator: str = ""
