"""Prompt templates: TOML files in `prompts/`, found by name or path, identified by a hash of their content."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from string import Template

from editr1.errors import ConfigError

_FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The words around pictures, instruction and principles.

    The order of a scoring chat is fixed (`editr1.verifier.render`): system, source picture, instruction,
    principles, and the edited picture last, so that everything before it is one prefix, the same for all
    candidates of a context.

    Attributes:
        name: by which verdicts and manifests name it.
        score_system: the rubric.
        source_label, edited_label: the text before each picture.
        task: `$instruction` and `$principles` are filled in.
        principle: one line per principle; `$number`, `$category` (short name) and `$question` are filled in.
        answer: closing text after the edited picture; may be empty.
        decompose_system, decompose_task: likewise for splitting an instruction; `$instruction` and `$exemplars`.
        exemplars: how many worked decompositions are shown, drawn by seed.
        echo_question: whether answers repeat each principle's question, or give its number only.
    """

    name: str
    score_system: str
    source_label: str
    edited_label: str
    task: str
    principle: str
    answer: str
    decompose_system: str
    decompose_task: str
    exemplars: int
    echo_question: bool

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of all fields."""
        text = "\x00".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def fill(self, field: str, **values: str) -> str:
        """One field with its `$names` filled in; values are inserted as they are, dollar signs included."""
        return Template(getattr(self, field)).substitute(values)


def names() -> list[str]:
    """Names of the templates that ship with editr1."""
    return sorted(p.stem for p in _FOLDER.glob("*.toml"))


def load_template(name_or_path: str | Path) -> PromptTemplate:
    """Load a template by the name of a shipped one, or by the path of a TOML file.

    Raises:
        ConfigError: if there is none of that name, or a key is missing or unknown.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" and path.is_file():
        return _read(path)  # a user's file may be edited while a notebook is open
    path = _FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        raise ConfigError(f"no prompt template {str(name_or_path)!r}: use one of {', '.join(names())} or a TOML file")
    return _read_once(path)


@cache
def _read_once(path: Path) -> PromptTemplate:
    return _read(path)


def _read(path: Path) -> PromptTemplate:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    wanted = {f.name for f in fields(PromptTemplate)}
    if missing := sorted(wanted - data.keys()):
        raise ConfigError(f"{path}: missing keys {', '.join(missing)}")
    if unknown := sorted(data.keys() - wanted):
        raise ConfigError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(wanted))}")
    return PromptTemplate(**data)
