"""Editors that ship with editr1, by name."""

from __future__ import annotations

from pathlib import Path

from editr1.judges.names import MODELS_FOLDER, resolve_shipped

# What a user writes -> folder under `MODELS_FOLDER`.
SHIPPED_EDITORS = {
    "embedded": "sticker-kontext-small",
    "sticker-kontext-small": "sticker-kontext-small",
    "sticker-qwen-small": "sticker-qwen-small",
}

# Folder -> what makes its editor.
_COMMANDS = {
    "sticker-kontext-small": "editr1 stickers train-editor recipes/sticker/editor-kontext-base.toml --ship",
    "sticker-qwen-small": "editr1 stickers train-editor recipes/sticker/editor-qwen-base.toml --ship",
}


def resolve_editor(name: str | Path) -> str:
    """The folder of a shipped editor, or the name itself if it is a path or a hub id.

    Raises:
        ModelError: if a shipped editor is meant, but its folder is missing.
    """
    return resolve_shipped(name, SHIPPED_EDITORS, _COMMANDS, MODELS_FOLDER, "model_index.json")
