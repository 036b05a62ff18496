"""The edits that an embedded editor learns from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from editr1.config import load
from editr1.errors import ConfigError
from editr1.stickers.draw import pixels
from editr1.training.pretrain.data import (
    MODES,
    EditMixture,
    PictureBatches,
    TaskChunks,
    changed_tokens,
    draw,
)
from editr1.training.pretrain.recipe import EditorRecipe, EditsRecipe
from editr1.types import EditKind


def test_shares_are_the_recipes() -> None:
    """Right edits 0.7 of 1200, standard error 0.013; kinds 4 : 1, of which nothing else; faults only those named."""
    kinds = dict.fromkeys(EditKind, 0.0) | {EditKind.REMOVE: 4.0, EditKind.ADD: 1.0}
    faults = {"nothing_happened": 3.0, "wrong_object": 1.0, "leak": 0.0}
    mixture = EditMixture(EditsRecipe(number=1200, per_task=3, right=0.7, faults=faults, kinds=kinds))
    tasks = [mixture.task(index) for index in range(400)]
    modes = Counter("+".join(edit.faults) or "right" for task in tasks for edit in mixture.edits(task))
    assert sum(modes.values()) == 1200
    assert modes["right"] / 1200 == pytest.approx(0.7, abs=0.05)
    assert set(modes) == {"right", "nothing_happened", "wrong_object"}
    assert modes["nothing_happened"] > 2 * modes["wrong_object"]
    found = Counter(task.kind for task in tasks)
    assert set(found) == {EditKind.REMOVE, EditKind.ADD}
    assert found[EditKind.REMOVE] / 400 == pytest.approx(0.8, abs=0.06)


def test_a_chunk_says_what_was_drawn() -> None:
    recipe = EditsRecipe(number=9, per_task=2, right=0.5, shard=2)
    chunks = TaskChunks(EditMixture(recipe), recipe.shard)
    assert [len(chunk.instructions) for chunk in (chunks[0], chunks[1], chunks[2])] == [2, 2, 1]
    chunk, mixture = chunks[1], EditMixture(recipe)
    for row, number in enumerate((2, 3)):
        task = mixture.task(number)
        assert chunk.instructions[row] == task.instruction
        assert np.array_equal(chunk.sources[row], pixels(task.before))
        for which, edit in enumerate(mixture.edits(task)):
            assert np.array_equal(chunk.edited[2 * row + which], pixels(edit.scene))
            mode = MODES[chunk.modes[2 * row + which]]
            assert mode == (edit.faults[0] if edit.faults else "right")
            if mode == "right":
                assert np.array_equal(chunk.edited[2 * row + which], pixels(task.after))


def test_changed_tokens_by_hand() -> None:
    """One pixel at row 20, column 90 is in the second row of tokens and the sixth column: 1 * 6 + 5 = 11."""
    source = np.full((96, 96, 3), 100, np.uint8)
    edited, faint = source.copy(), source.copy()
    edited[20, 90] = 130
    faint[20, 90] = 105
    assert changed_tokens(source, edited).nonzero()[0].tolist() == [11]
    assert not changed_tokens(source, faint).any()


def test_workers_draw_what_would_have_been_drawn_without_them() -> None:
    data = PictureBatches(EditMixture(EditsRecipe()), 2, 4)
    alone, helped = list(draw(data, 1, 0)), list(draw(data, 1, 1))
    assert len(alone) == len(helped) == 3
    assert all(np.array_equal(one, two) for one, two in zip(alone, helped, strict=True))
    assert np.array_equal(alone[0][0], data.picture(2))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["edits.faults={wrong_colour=1.0}"], "wrong_colour"),
        (["edits.faults={leak=1.0}"], "nothing_happened"),
        (["edits.right=1.5"], "right"),
        (["editor=sdxl"], "editor"),
        (["editor=qwen", "size=large"], "small only"),
        (["flow.lerning_rate=1"], "learning_rate"),
        (["edits.kinds={paint=1.0}"], "kinds"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(EditorRecipe, None, ["name=x", "editor=kontext", *overrides])


@pytest.mark.parametrize("name", ["editor-kontext-base", "editor-qwen-base"])
def test_shipped_recipes_are_valid(repository, name: str) -> None:  # type: ignore[no-untyped-def]
    recipe = load(EditorRecipe, repository / "recipes" / "sticker" / f"{name}.toml")
    assert recipe.name == f"sticker-{recipe.editor}-small"
    assert recipe.edits.kinds[EditKind.REPLACE] > 1  # the hardest kind
