"""Turning pydantic's findings into sentences: what was wrong, with the value, and the nearest right name."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError


def explain(
    error: ValidationError, model: type[BaseModel], data: Mapping[str, Any], file: str, origins: Mapping[str, str]
) -> str:
    """One sentence a fault, joined by line breaks.

    Args:
        error: what pydantic found.
        model: that was checked against.
        data: that was checked.
        file: where values came from, unless `origins` knows better.
        origins: dotted key -> where its value came from, for overrides.
    """
    sentences = dict.fromkeys(_sentence(fault, model, data, file, origins) for fault in error.errors())
    return "\n".join(sentences)


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a model: tables first, then what they hold; `*` stands for a name that the user gives."""
    for name, field in model.model_fields.items():
        yield prefix + name
        named = "*." if typing.get_origin(field.annotation) in (dict, Mapping) else ""
        for inner in _models_in(field.annotation):
            yield from known_keys(inner, f"{prefix}{name}.{named}")


def _sentence(
    fault: Any, model: type[BaseModel], data: Mapping[str, Any], file: str, origins: Mapping[str, str]
) -> str:
    keys = _keys_of(fault["loc"], data)
    dotted = ".".join(keys)
    origin = next((where for key, where in origins.items() if f"{dotted}.".startswith(f"{key}.")), file)
    if fault["type"] == "extra_forbidden":
        # An override may have made the unknown table in order to set a key in it.
        origin = next((where for key, where in origins.items() if key.startswith(f"{dotted}.")), origin)
        return f"{origin}: unknown key '{dotted}'{_suggestion(keys, model)}"
    if fault["type"] == "missing":
        return f"{origin}: the key '{dotted}' is missing"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = f"should be {message}" if message != fault["msg"] else message
    if fault["type"] == "value_error":
        expected = message
    return f"{origin}: '{dotted}' {expected}, got {json.dumps(fault['input'], default=str, ensure_ascii=False)}"


def _keys_of(location: tuple[int | str, ...], data: Any) -> list[str]:
    """The keys in a fault's location: pydantic mixes in the names of union members, which no file holds."""
    keys = []
    for position, part in enumerate(location):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if position < len(location) - 1 or not isinstance(data, Mapping):
                continue
        keys.append(str(part))
    return keys


def _suggestion(keys: list[str], model: type[BaseModel]) -> str:
    """The nearest known key: first in the same table, then the same name in any other, then what the table knows."""
    table, name = keys[:-1], keys[-1]
    everything = list(dict.fromkeys(_with_names(key, table) for key in known_keys(model)))
    prefix = "".join(f"{key}." for key in table if not key.isdigit())
    siblings = [key for key in everything if key.startswith(prefix) and "." not in key[len(prefix) :]]
    by_name = {key[len(prefix) :]: key for key in siblings}
    elsewhere = {key.rpartition(".")[2]: key for key in reversed(everything)}
    for candidates in (by_name, elsewhere):
        if near := difflib.get_close_matches(name, candidates, n=1, cutoff=0.6):
            return f": did you mean '{candidates[near[0]]}'?"
    return f"; known are {', '.join(siblings)}" if siblings else ""


def _with_names(key: str, table: list[str]) -> str:
    """A known key with the names that the user gave to the tables on its way, as far as it is the same way."""
    parts = key.split(".")
    for place, part in enumerate(parts):
        if part == "*":
            parts[place] = table[place] if len(table) > place and parts[:place] == table[:place] else "NAME"
    return ".".join(parts)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside `Model`, `Model | None`, `list[Model]`, `Annotated[Model, ...]` and the like."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
