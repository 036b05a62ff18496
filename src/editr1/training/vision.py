"""The two sides of a vision-language model: what sees, and what reads and writes."""

from __future__ import annotations

from typing import Any

from torch import nn


def text_side(model: Any) -> list[nn.Module]:
    """The text model and the output layer: all but the vision tower and what connects it."""
    return [m for m in (model.get_decoder(), model.get_output_embeddings()) if m is not None]


def freeze_vision(model: Any) -> None:
    """Train the text side alone."""
    trained = {id(p) for module in text_side(model) for p in module.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
