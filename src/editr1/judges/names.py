"""Models that ship with editr1, by name."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from editr1.errors import ConfigError, ModelError

MODELS_FOLDER = Path(__file__).parents[1] / "models"

MODEL_FILES = ("config.json", "adapter_config.json")
"""What the folder of a model holds, and that of a LoRA adapter on one."""

_INNER = ("model", "lora", "adapter")
"""Folders of a run that `editr1 train` leaves models in."""

# What a user writes -> folder under `MODELS_FOLDER`.
SHIPPED = {
    "embedded": "sticker-gcpo-small",
    "sticker-verifier-small": "sticker-verifier-small",
    "sticker-verifier-large": "sticker-verifier-large",
    "sticker-gcpo-small": "sticker-gcpo-small",
    "sticker-gcpo-large": "sticker-gcpo-large",
    "sticker-base-small": "sticker-base-small",
    "sticker-base-large": "sticker-base-large",
}

# Folder -> what makes its model.
_COMMANDS = {
    "sticker-verifier-small": "editr1 train sft recipes/sticker/sft-small.toml --ship",
    "sticker-verifier-large": "editr1 train sft recipes/sticker/sft-large.toml --ship",
    "sticker-gcpo-small": "editr1 train gcpo recipes/sticker/gcpo.toml --ship",
    "sticker-gcpo-large": "editr1 train gcpo recipes/sticker/gcpo-large.toml --ship",
    "sticker-base-small": "editr1 stickers train recipes/sticker/base-small.toml --ship",
    "sticker-base-large": "editr1 stickers train recipes/sticker/base-large.toml --ship",
}


def check_place(name: str, files: Sequence[str], what: str, shipped: Iterable[str] = ()) -> None:
    """Say what is wrong with a path before the hub's client takes it for a hub id, and tries for minutes.

    Args:
        name: a folder or a hub id; names of what ships are resolved already.
        files: of which the folder holds one.
        what: for messages, e.g. "model".
        shipped: names that would do, too.

    Raises:
        ModelError: if it is a file, a folder without such a file, or a path at which there is nothing.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in files):
            inner = next((part for part in _INNER if any((path / part / file).is_file() for file in files)), None)
            advice = f"did you mean {path / inner}?" if inner else "name the folder that does"
            raise ModelError(f"the folder {name} holds no {what} (no {' or '.join(files)} in it): {advice}")
        return
    if path.exists():
        raise ModelError(f"the {what} {name} is a file: name the folder that holds {' or '.join(files)}")
    local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or os.sep == "\\"
    if local or path.parent.is_dir():
        near = difflib.get_close_matches(name, [*shipped, *_beside(path)], n=1, cutoff=0.7)
        hint = f"did you mean {near[0]!r}? Else " if near else ""
        names = f", or one that ships: {', '.join(shipped)}" if shipped else ""
        raise ModelError(f"there is no {what} {name!r}: {hint}give the path of a folder, a hub id, owner/name{names}")


def _beside(path: Path) -> list[str]:
    """Paths of the folders that are where one was looked for."""
    try:
        return [str(other) for other in path.parent.iterdir() if other.is_dir()]
    except OSError:
        return []


def resolve_model(name: str | Path) -> str:
    """The folder of a shipped model, or the name itself if it is a path or a hub id.

    Raises:
        ModelError: if a shipped model is meant, but its folder is missing.
    """
    return resolve_shipped(name, SHIPPED, _COMMANDS, MODELS_FOLDER, *MODEL_FILES)


def split_adapter(model: str, adapter: str | None = None) -> tuple[str, str | None]:
    """A model's base and its LoRA adapter: where `model` is the folder of an adapter, the base that it names.

    A base that is no name of a shipped model is a path, from the adapter's folder or from the working directory, or a
    hub id.

    Args:
        model: folder or hub id.
        adapter: to be put on the model.

    Returns:
        base, adapter; what was given if the model is no adapter's folder.

    Raises:
        ConfigError: if the model is an adapter's folder, and another adapter is given.
        ModelError: if the adapter does not say what it belongs to.
    """
    folder = Path(model).expanduser()
    if (folder / MODEL_FILES[0]).is_file() or not (folder / MODEL_FILES[1]).is_file():
        return model, adapter
    if adapter is not None:
        raise ConfigError(f"{model} is an adapter itself: give the model that it belongs to, or no other adapter")
    try:
        base = json.loads((folder / MODEL_FILES[1]).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as exc:
        raise ModelError(f"{folder / MODEL_FILES[1]} cannot be read: {exc}") from exc
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"the adapter in {model} does not say which model it belongs to: put its name or path into "
            f"{MODEL_FILES[1]} as base_model_name_or_path"
        )
    if base not in SHIPPED and (folder / base).is_dir():
        return str(folder / base), model
    return resolve_model(base), model


def resolve_shipped(
    name: str | Path, shipped: Mapping[str, str], commands: Mapping[str, str], models: Path, *files: str
) -> str:
    """The folder of a shipped model of some sort, or the name itself if it is a path or a hub id.

    Args:
        name: what a user wrote.
        shipped: the names of this sort -> folder under `models`.
        commands: folder -> the command that makes its model.
        models: where shipped models are.
        *files: of which the folder of such a model holds one.

    Raises:
        ModelError: if a shipped model is meant, but its folder is missing; it says how to make it, and what is there.
    """
    if not isinstance(name, str) or name not in shipped:
        return str(name)
    folder = models / shipped[name]

    def is_there(place: Path) -> bool:
        return any((place / file).is_file() for file in files)

    if not is_there(folder):
        there = [other for other, place in shipped.items() if is_there(models / place)]
        missing = " or ".join(f"{folder.name}/{file}" for file in files)
        raise ModelError(
            f"{name!r} is not in this installation (no {missing} under {models}): "
            f"make it with  {commands[folder.name]}  or name another; of those that ship, "
            f"{', '.join(there) or 'none'} {'are' if len(there) > 1 else 'is'} there"
        )
    return str(folder)
