"""Models that ship with editr1, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from editr1.errors import ModelError

MODELS_FOLDER = Path(__file__).parents[1] / "models"

# What a user writes -> folder under `MODELS_FOLDER`.
SHIPPED = {
    "embedded": "sticker-verifier-small",
    "sticker-verifier-small": "sticker-verifier-small",
    "sticker-verifier-large": "sticker-verifier-large",
    "sticker-base-small": "sticker-base-small",
    "sticker-base-large": "sticker-base-large",
}

# Folder -> what makes its model.
_COMMANDS = {
    "sticker-verifier-small": "editr1 train sft recipes/sticker/sft-small.toml --ship",
    "sticker-verifier-large": "editr1 train sft recipes/sticker/sft-large.toml --ship",
    "sticker-base-small": "editr1 stickers train recipes/sticker/base-small.toml --ship",
    "sticker-base-large": "editr1 stickers train recipes/sticker/base-large.toml --ship",
}


def resolve_model(name: str | Path) -> str:
    """The folder of a shipped model, or the name itself if it is a path or a hub id.

    Raises:
        ModelError: if a shipped model is meant, but its folder is missing.
    """
    return resolve_shipped(name, SHIPPED, _COMMANDS, MODELS_FOLDER, "config.json")


def resolve_shipped(
    name: str | Path, shipped: Mapping[str, str], commands: Mapping[str, str], models: Path, file: str
) -> str:
    """The folder of a shipped model of some sort, or the name itself if it is a path or a hub id.

    Args:
        name: what a user wrote.
        shipped: the names of this sort -> folder under `models`.
        commands: folder -> the command that makes its model.
        models: where shipped models are.
        file: what the folder of such a model holds.

    Raises:
        ModelError: if a shipped model is meant, but its folder is missing; it says how to make it, and what is there.
    """
    if not isinstance(name, str) or name not in shipped:
        return str(name)
    folder = models / shipped[name]
    if not (folder / file).is_file():
        there = [other for other, place in shipped.items() if (models / place / file).is_file()]
        raise ModelError(
            f"{name!r} is not in this installation (no {folder.name}/{file} under {models}): "
            f"make it with  {commands[folder.name]}  or name another; of those that ship, "
            f"{', '.join(there) or 'none'} {'are' if len(there) > 1 else 'is'} there"
        )
    return str(folder)
