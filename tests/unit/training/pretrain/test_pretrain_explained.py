"""What an editor in training knows of held-out edits at a noise level."""

from __future__ import annotations

import math

import pytest
import torch
from pretrain_helpers import tiny_trainee

from editr1.training.pretrain.explained import LEVELS, HeldOutEdits, explained
from editr1.training.pretrain.recipe import EditorRecipe


def test_shares_by_hand() -> None:
    """Token 0 goes from 0 to 2 and is said to be 1: of a distance of 4, 1 is left, 0.75 is known. Token 1 stays at 3.

    It is said to be 3 and 0 in turn: all of its square of 9 is known, or nothing.
    """
    source, edited = torch.tensor([[[0.0], [3.0]]]), torch.tensor([[[2.0], [3.0]]])
    changed = torch.tensor([[True, False]])
    assert explained(torch.tensor([[[1.0], [3.0]]]), edited, source, changed) == (0.75, 1.0)
    assert explained(torch.tensor([[[0.0], [0.0]]]), edited, source, changed) == (0.0, 0.0)
    nothing = torch.tensor([[False, False]])
    assert math.isnan(explained(edited, edited, source, nothing)[0])


@pytest.mark.parametrize("name", ["kontext", "qwen"])
def test_levels_of_an_editor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A velocity of e - x0 tells everything, at every level; one of 0 says that the noisy edit is the edit."""
    trainee = tiny_trainee(name)
    recipe = EditorRecipe.model_validate(
        {"name": "tiny", "editor": name, "held_out": {"per_kind": 1}, "precision": "fp32", "device": "cpu"}
    )
    with trainee.faster():
        edits = HeldOutEdits(trainee, recipe)
        editor = trainee.editor()
        found = edits.measure(editor)
        assert found.keys() == {f"{part}/{level:g}" for part in ("explained", "copied") for level in LEVELS}
        assert all(math.isfinite(value) for value in found.values())
        right, silent = edits.noise - edits.examples.edited, torch.zeros_like(edits.noise)
        monkeypatch.setattr(type(editor), "velocity", lambda *asked: right)
        assert edits.measure(editor) == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-5)
        monkeypatch.setattr(type(editor), "velocity", lambda *asked: silent)
        some = edits.measure(editor)
    assert some["copied/1"] < some["copied/0.9"] < some["copied/0.7"] < some["copied/0.4"]
