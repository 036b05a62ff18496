"""Prompts of the judges that are not the verifier: TOML files, found by name or path, identified by a hash."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from string import Template
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from editr1.errors import ConfigError

_FOLDER = Path(__file__).parent
_STRICT = ConfigDict(extra="forbid")

P = TypeVar("P", "RatingPrompt", "PairPrompt")


@checked(frozen=True, config=_STRICT)
class Call:
    """One question of a rating prompt.

    Attributes:
        name: of the figure that comes out, e.g. "SC".
        pictures: which pictures are shown, in order.
        parts: names of the numbers that are asked for, in order.
        system, text: the words; `$instruction` and `$criterion` are filled into `text`.
    """

    name: str
    pictures: tuple[Literal["source", "edited"], ...]
    parts: tuple[str, ...]
    system: str
    text: str


@checked(frozen=True, config=_STRICT)
class RatingPrompt:
    """Asks for numbers on one edit, in one or more calls.

    A call's figure is the smallest or the mean of its parts (`within`); the score is the geometric mean of the calls'
    figures, which for a single call is that call's figure.

    Attributes:
        low, high: range of each number.
        criteria: by kind of edit, what `$criterion` becomes; "other" serves kinds that are not named.
    """

    name: str
    low: float
    high: float
    within: Literal["min", "mean"]
    calls: tuple[Call, ...]
    criteria: dict[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of all fields."""
        return _hash(asdict(self))

    def criterion(self, kind: str) -> str:
        """What matters for a kind of edit; empty if the prompt does not say."""
        return self.criteria.get(kind, self.criteria.get("other", ""))


@checked(frozen=True, config=_STRICT)
class PairPrompt:
    """Asks which of two edits is better; `$instruction` and `$criterion` are filled into `first_label`.

    Attributes:
        criteria: by dimension, what `$criterion` becomes.
    """

    name: str
    system: str
    source_label: str
    first_label: str
    second_label: str
    criteria: dict[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of all fields."""
        return _hash(asdict(self))


def load_rating_prompt(name_or_path: str | Path) -> RatingPrompt:
    """A prompt by the name of a shipped one, or by the path of a TOML file.

    Raises:
        ConfigError: if there is none, or it is no rating prompt.
    """
    return _load(str(name_or_path), RatingPrompt)


def load_pair_prompt(name_or_path: str | Path = "pairwise") -> PairPrompt:
    """Likewise for a prompt that compares two edits."""
    return _load(str(name_or_path), PairPrompt)


def names() -> list[str]:
    """Names of the prompts that ship with editr1."""
    return sorted(p.stem for p in _FOLDER.glob("*.toml"))


def fill(text: str, **values: str) -> str:
    """A text with its `$names` filled in; values are inserted as they are, dollar signs included."""
    return Template(text).substitute(values)


def _load(name_or_path: str, kind: type[P]) -> P:
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        raise ConfigError(f"no prompt {name_or_path!r}: use one of {', '.join(names())}, or a TOML file")
    try:
        prompt = TypeAdapter(kind).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path} is no {kind.__name__}: {where}: {first['msg']}") from exc
    if fault := _fault(prompt):
        raise ConfigError(f"{path}: {fault}")
    return prompt


def _fault(prompt: RatingPrompt | PairPrompt) -> str:
    """Why a prompt cannot be asked with; empty if it can."""
    if isinstance(prompt, PairPrompt):
        return _text_fault({"first_label": prompt.first_label})
    if not prompt.low < prompt.high:
        return f"low must be below high, got {prompt.low:g} and {prompt.high:g}"
    if not prompt.calls:
        return "calls is empty: a prompt asks at least one question"
    for call in prompt.calls:
        if not call.parts or not call.pictures:
            return f"the call {call.name} must name at least one of parts and one of pictures"
    named = [name for call in prompt.calls for name in (*call.parts, call.name) if call.parts != (call.name,)]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        return f"{', '.join(twice)} names two numbers: every part and every call needs a name of its own"
    return _text_fault({f"text of the call {call.name}": call.text for call in prompt.calls})


def _text_fault(texts: Mapping[str, str]) -> str:
    known = {"instruction", "criterion"}
    found: set[str] = set()
    for name, text in texts.items():
        if not Template(text).is_valid():
            return f"the {name} has a $ that begins no name: write $$ for a dollar sign"
        found |= (used := set(Template(text).get_identifiers()))
        if used - known:
            unknown = ", ".join(f"${n}" for n in sorted(used - known))
            return (
                f"the {name} has {unknown}: only $instruction and $criterion are filled in; write $$ for a dollar sign"
            )
    if "instruction" not in found:
        return f"$instruction is in none of the texts ({', '.join(texts)}): the judge would not know what was asked for"
    return ""


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:12]
