"""What a step's folder was made of, recipes by what they say, models by what they are: of others a new one is made."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from editr1.errors import ConfigError
from editr1.evaluation.reproduction.places import Place, file_name, read_json
from editr1.files import write_json

GROWS = ("pairs",)
"""Steps whose result may grow: what measured a part of it goes on, for every judgement is kept by what was judged."""


def recipes_of(command: Sequence[str]) -> dict[str, str]:
    """The recipes that a command names, and those that they name: path -> hash of what each says, comments aside.

    Raises:
        ConfigError: if one is not TOML.
    """
    found: dict[str, str] = {}
    waiting = [Path(word) for word in command if word.endswith(".toml")]
    while waiting:
        path = waiting.pop()
        if path.as_posix() in found or not path.is_file():
            continue
        try:
            said = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{path} is not TOML: {exc}") from exc
        found[path.as_posix()] = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]
        waiting += [path.parent / name for name in _names(said)]
    return dict(sorted(found.items()))


def make_room(place: Place, step: str, command: Sequence[str], needs: Mapping[str, str]) -> Path | None:
    """Put a step's former folder aside if what it holds was made of something else; then note what it is made of now.

    A training would go on from a model that is no more, and a measurement keep its figures.

    Args:
        place: of everything.
        step: whose folder.
        command: that will write to it.
        needs: the steps that it needs, and the keys of their results.

    Returns:
        Where the former folder is now; None if it stays, or there is none.
    """
    note, folder = place.out / "made-of" / f"{file_name(step)}.json", place.folder(step)
    now = {
        "command": [word for before, word in zip(["", *command], command, strict=False) if before != "--data"],
        "recipes": recipes_of(command),
        "needs": {name: key for name, key in sorted(needs.items()) if name not in GROWS},
    }
    moved = note.is_file() and folder.is_dir() and read_json(note) != now
    aside = next(p for n in count(1) if not (p := folder.with_name(f"{folder.name}-before-{n}")).exists())
    if moved:
        folder.rename(aside)
    write_json(note, now)
    return aside if moved else None


def _names(value: Any) -> Iterator[str]:
    """All strings in a recipe that name one."""
    if isinstance(value, str):
        if value.endswith(".toml"):
            yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _names(part)
