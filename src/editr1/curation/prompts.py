"""The stages' own prompts: TOML files in `prompts/`, or of a user's own, identified by a hash of their content."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from editr1.curation.records import content_id
from editr1.errors import ConfigError
from editr1.verifier.template import PromptTemplate

_FOLDER = Path(__file__).parent / "prompts"

_FIELDS = {
    "select": ("system", "task"),
    "verify": ("system", "source_label", "edited_label", "task", "principle", "hints", "note", "no_notes"),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """The texts of one stage's prompt, by name.

    Attributes:
        name: of the stage, or of the user's file.
        texts: field -> text with `$names` to be filled in.
    """

    name: str
    texts: Mapping[str, str]

    @property
    def hash(self) -> str:
        """First 12 hex digits of a hash over all texts."""
        return content_id(dict(self.texts))[:12]

    def fill(self, field: str, **values: str) -> str:
        """One text with its `$names` filled in; values are inserted as they are, dollar signs included."""
        return Template(self.texts[field]).substitute(values)


def load_prompt(stage: str, path: str | None = None) -> Prompt:
    """The prompt of a stage, "select" or "verify": the one that ships with editr1, or a TOML file of the same keys.

    Raises:
        ConfigError: if the file cannot be read, or its keys are not the stage's.
    """
    file = _FOLDER / f"{stage}.toml" if path is None else Path(path)
    data = _read(file)
    wanted = set(_FIELDS[stage])
    if data.keys() != wanted:
        odd = ", ".join(sorted(data.keys() ^ wanted))
        raise ConfigError(f"{file}: the prompt of {stage} has the keys {', '.join(_FIELDS[stage])}; look at {odd}")
    return Prompt(stage if path is None else file.stem, data)


def load_variants(names: Sequence[str], path: str | None = None) -> dict[str, str]:
    """Additions to the rubric by name, in the order asked for.

    Raises:
        ConfigError: if one is unknown.
    """
    file = _FOLDER / "variants.toml" if path is None else Path(path)
    known = _read(file).get("variants")
    if not isinstance(known, dict):
        raise ConfigError(f"{file}: variants stand in a table [variants], name = text")
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"unknown variant {unknown[0]!r}: {file.name} has {', '.join(known)}")
    return {name: known[name] for name in names}


def vary(template: PromptTemplate, variant: str, addition: str) -> PromptTemplate:
    """The scoring template with an addition to its rubric; the one called "plain" adds nothing."""
    if not addition:
        return template
    return replace(template, name=f"{template.name}+{variant}", score_system=template.score_system + addition)


def _read(file: Path) -> dict[str, str]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read the prompt {file}: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} is not TOML: {exc}") from exc
