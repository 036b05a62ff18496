"""Editors that ship with editr1, by name."""

from __future__ import annotations

from pathlib import Path

from editr1.errors import ModelError
from editr1.judges.names import MODELS_FOLDER

# What a user writes -> folder under `MODELS_FOLDER`.
SHIPPED_EDITORS = {
    "embedded": "sticker-kontext-small",
    "sticker-kontext-small": "sticker-kontext-small",
    "sticker-qwen-small": "sticker-qwen-small",
}

_RECIPES = {
    "sticker-kontext-small": "recipes/sticker/editor-kontext-base.toml",
    "sticker-qwen-small": "recipes/sticker/editor-qwen-base.toml",
}


def resolve_editor(name: str | Path) -> str:
    """The folder of a shipped editor, or the name itself if it is a path or a hub id.

    Raises:
        ModelError: if a shipped editor is meant, but its folder is missing.
    """
    if not isinstance(name, str) or name not in SHIPPED_EDITORS:
        return str(name)
    folder = MODELS_FOLDER / SHIPPED_EDITORS[name]
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"the editor {name!r} is not in this installation (no {folder.name}/model_index.json under "
            f"{MODELS_FOLDER}): train it with  editr1 stickers train-editor {_RECIPES[folder.name]} --ship  "
            f"or name another editor"
        )
    return str(folder)
