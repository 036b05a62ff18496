"""Reading configuration: a TOML file, then single values from the command line, checked against a model once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from editr1.config.explain import explain
from editr1.config.models import Recipe
from editr1.errors import ConfigError
from editr1.files import write_json

R = TypeVar("R", bound=Recipe)


def load(
    model: type[R],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    values: Mapping[str, Any] | None = None,
) -> R:
    """Read a recipe, lay overrides over it, and check the whole.

    Args:
        model: what the recipe must be.
        path: of a TOML file; None starts from the model's defaults.
        overrides: texts `a.b=1`. The right side is TOML (`0.5`, `true`, `[1, 2]`, `"text"`), or `null` for what may be
            left out, such as a whole table that the file has; what is neither is taken as a string, so that
            `judge.model=Qwen/Qwen2.5-VL-7B-Instruct` needs no quotes.
        values: dotted keys with values that are parsed already, such as a command's own options; laid over last.

    Raises:
        ConfigError: for a file that is missing or no TOML, an override without `=`, an unknown key (the message
            suggests the nearest one) or a value of the wrong type (it is quoted).
    """
    data = _read(Path(path)) if path is not None else {}
    origins: dict[str, str] = {}
    for text in overrides:
        key, value = parse_override(text)
        _set(data, key, value, origin=f"override '{text}'")
        origins[key] = f"override '{text}'"
    for key, value in (values or {}).items():
        _set(data, key, value, origin=f"the value of '{key}'")
        origins[key] = "command line"
    try:
        # Strict JSON: no "5" for a number, yet a list for a tuple and a string for a path or an enum, as TOML has them.
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as exc:
        raise ConfigError(explain(exc, model, data, "defaults" if path is None else str(path), origins)) from exc


def dump(config: Recipe, folder: str | Path) -> Path:
    """Write the resolved configuration, every default included, as `config.json` into a run directory."""
    return write_json(Path(folder) / "config.json", config.model_dump(mode="json"))


def parse_override(text: str) -> tuple[str, Any]:
    """Split `a.b=1` into the dotted key and the value; `null` is None.

    Raises:
        ConfigError: if there is no `=`, or the key is empty in part.
    """
    key, equals, right = text.partition("=")
    key, right = key.strip(), right.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override {text!r} is not of the form  some.key=value")
    if right == "null":
        return key, None
    try:
        parsed = tomllib.loads(f"value = {right}")
    except tomllib.TOMLDecodeError:
        return key, right
    # A right side with a line break could smuggle in further keys: then it is no single TOML value, but a string.
    return key, parsed["value"] if parsed.keys() == {"value"} else right


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read the recipe {path}: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc


def _set(data: dict[str, Any], key: str, value: Any, *, origin: str) -> None:
    """Set a dotted key, making the tables on the way."""
    *tables, last = key.split(".")
    for depth, name in enumerate(tables, start=1):
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{origin}: '{'.'.join(tables[:depth])}' is a single value and holds no '{last}'")
    data[last] = value
