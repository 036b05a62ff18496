"""Pairs over an editor's own pictures: people prefer what the pixels show to be better, by their taste."""

from __future__ import annotations

import numpy as np
from PIL import Image

from editr1.images import load_image
from editr1.stickers.annotators import HUMANS
from editr1.stickers.draw import draw
from editr1.stickers.faults import EDITORS
from editr1.stickers.tasks import sample_task
from editr1.training.gcpo.editor_pairs import compared, worth
from editr1.types import EditKind

TASK = sample_task("editor-pairs-test", 0, EditKind("subject-add"), False)


def test_a_right_edit_is_preferred_to_the_source_whichever_comes_first() -> None:
    right, source = draw(TASK.after), draw(TASK.before)
    for first, second in ((right, source), (source, right)):
        pair = compared(TASK, first, second, "plain")
        assert not pair.same
        assert load_image(pair.preferred).tobytes() == right.tobytes()
        assert load_image(pair.other).tobytes() == source.tobytes()


def test_alike_pictures_are_the_same_to_most() -> None:
    """Equal worths, noise of deviation 0.8 on each: |gap| < 0.5 has the probability erf(0.5 / (2 * 0.8)) = 34 %."""
    tasks = [sample_task("editor-pairs-test", index) for index in range(200)]
    picture = Image.new("RGB", (8, 8))
    same = [compared(task, picture, picture, "plain").same for task in tasks]
    assert 0.2 < sum(same) / len(same) < 0.6


def test_taste_weighs_what_the_pixels_show() -> None:
    """The exacting mind a new backdrop more, and grain less, than those with the oracle's taste."""
    right = np.asarray(draw(TASK.after), dtype=float)
    grain = np.random.default_rng(0).normal(0, 30, right.shape)
    grainy = Image.fromarray((right + grain).clip(0, 255).astype(np.uint8))
    changed = next(
        picture
        for seed in range(200)
        if (edit := EDITORS["eager"].edit(TASK, seed=seed)).scene.backdrop != TASK.before.backdrop
        and worth(HUMANS["ann"], TASK, picture := edit.picture()) > 0
    )
    assert worth(HUMANS["cy"], TASK, changed) < worth(HUMANS["ann"], TASK, changed)
    assert worth(HUMANS["cy"], TASK, grainy) > worth(HUMANS["ann"], TASK, grainy)
