"""Models that ship with editr1, by name."""

from __future__ import annotations

from pathlib import Path

from editr1.errors import ModelError

MODELS_FOLDER = Path(__file__).parents[1] / "models"

# What a user writes -> folder under `MODELS_FOLDER`.
SHIPPED = {
    "embedded": "sticker-verifier-small",
    "sticker-verifier-small": "sticker-verifier-small",
    "sticker-base-small": "sticker-base-small",
    "sticker-base-large": "sticker-base-large",
}


def resolve_model(name: str | Path) -> str:
    """The folder of a shipped model, or the name itself if it is a path or a hub id.

    Raises:
        ModelError: if a shipped model is meant, but its folder is missing.
    """
    if not isinstance(name, str) or name not in SHIPPED:
        return str(name)
    folder = MODELS_FOLDER / SHIPPED[name]
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"the model {name!r} is not in this installation (no {folder.name}/config.json under {MODELS_FOLDER}): "
            f"train it with  editr1 stickers train recipes/sticker/{folder.name.removeprefix('sticker-')}.toml --ship  "
            f"or name another model"
        )
    return str(folder)
