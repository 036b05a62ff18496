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

# LoRA weights that RL made: what a user writes, and the folder under `MODELS_FOLDER`, are the same.
SHIPPED_LORAS = {
    name: name
    for name in (
        "sticker-kontext-small-rl-sft-small",
        "sticker-kontext-small-rl-gcpo-small",
        "sticker-kontext-small-rl-sft-large",
        "sticker-kontext-small-rl-gcpo-large",
        "sticker-qwen-small-rl-gcpo-large",
    )
}

LORA_FILE = "pytorch_lora_weights.safetensors"

# Folder -> what makes its editor.
_COMMANDS = {
    "sticker-kontext-small": "editr1 stickers train-editor recipes/sticker/editor-kontext-base.toml --ship",
    "sticker-qwen-small": "editr1 stickers train-editor recipes/sticker/editor-qwen-base.toml --ship",
}
_RL_COMMAND = "editr1 train editor recipes/sticker/editor-flow-grpo.toml --set name={} --ship"


def resolve_editor(name: str | Path) -> str:
    """The folder of a shipped editor, or the name itself if it is a path or a hub id.

    Raises:
        ModelError: if a shipped editor is meant, but its folder is missing.
    """
    return resolve_shipped(name, SHIPPED_EDITORS, _COMMANDS, MODELS_FOLDER, "model_index.json")


def resolve_lora(name: str | Path) -> str:
    """The folder of LoRA weights that ship, or the name itself if it is a path or a hub id.

    Raises:
        ModelError: if weights that ship are meant, but their folder is missing.
    """
    commands = {folder: _RL_COMMAND.format(folder) for folder in SHIPPED_LORAS}
    return resolve_shipped(name, SHIPPED_LORAS, commands, MODELS_FOLDER, LORA_FILE)
