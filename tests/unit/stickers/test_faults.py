from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.stickers.faults import EDITORS, FAULTS, STARTING_OVER, StickerEdit, wrong_picture
from editr1.stickers.oracle import damage, flaw_cost, utility
from editr1.stickers.scene import Backdrop, Caption, Scene, Sticker
from editr1.stickers.steps import Move, Repaint
from editr1.stickers.tasks import StickerTask, sample_task

SCENE = Scene(Backdrop("grass", 1), (Sticker("apple", "top left"), Sticker("car", "center")), Caption("SALE", "bottom"))


def task(*steps):
    after = SCENE
    for step in steps:
        after = step.apply(after)
    probes = tuple(p for s in steps for p in s.probes(SCENE))
    return StickerTask("t", SCENE, after, steps, "do it", probes)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_occurs_and_costs(name):
    """Over many tasks each fault applies at least once, and always lowers the utility of the right edit."""
    costs = []
    for index in range(120):
        job = sample_task("fault", index)
        out = FAULTS[name](job, job.after, Random(index))
        if out is not None and out != job.after:
            costs.append(10 - utility(job, out))
    assert costs, "never applied"
    assert min(costs) > 0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(EDITORS)), st.integers(0, 3))
def test_edits_are_reproducible_and_faults_are_named(index, editor, seed):
    job = sample_task("edits", index)
    edit = EDITORS[editor].edit(job, seed)
    assert edit.scene == EDITORS[editor].edit(job, seed).scene
    assert (edit.scene == job.after) == (not edit.faults)
    assert sum(f in STARTING_OVER for f in edit.faults) <= 1
    assert len(set(edit.faults)) == len(edit.faults)


def test_editors_are_right_as_often_as_they_say():
    """Binomial with n = 700: within 3.3 standard deviations."""
    for editor in EDITORS.values():
        right = sum(not editor.edit(sample_task("rate", i)).faults for i in range(700)) / 700
        assert abs(right - editor.right) < 3.3 * (editor.right * (1 - editor.right) / 700) ** 0.5


def test_utility_by_hand():
    """Recolour the apple and move the car, on a scene with two stickers, a caption and grass.

    - both done: 10. One of two done: 10 * (1 + 0) / 2 = 5.
    - car moved 7 px only: its two Follow questions fail, progress 0; apple done: 5.
    - apple in a wrong colour, car moved: 10 * (0 + 1) / 2 - half of 1.5 for a look that is neither old nor new = 4.25.
    - both done, caption changed (2) and noise of 20 (1 + 20 / 20): 10 - 2 - 2 = 6.
    - both done, another grass (1.2), a new sticker (2): 6.8.
    """
    job = task(Repaint("apple", "blue"), Move("car", "right"))
    assert utility(job, job.after) == 10
    assert utility(job, SCENE.change("apple", finish="blue")) == 5
    assert utility(job, SCENE.change("apple", finish="blue").change("car", dx=7)) == 5
    assert utility(job, job.after.change("apple", finish="purple")) == pytest.approx(4.25)
    spoilt = Scene(SCENE.backdrop, job.after.stickers, Caption("WOW", "bottom"), noise=20)
    assert (damage(job, spoilt), flaw_cost(spoilt)) == (2.0, 2.0)
    assert utility(job, spoilt) == pytest.approx(6.0)
    more = Scene(Backdrop("grass", 2), (*job.after.stickers, Sticker("star", "top")), SCENE.caption)
    assert utility(job, more) == pytest.approx(6.8)


def test_nothing_or_nothing_asked_for_is_worth_nothing():
    job = task(Repaint("apple", "blue"))
    assert utility(job, SCENE) == 0
    assert utility(job, SCENE.change("car", finish="blue")) == 0  # the wrong object
    assert utility(job, wrong_picture(job, SCENE, Random(0))) == 0


def test_ids_tell_edits_apart():
    job = sample_task("ids", 0)
    assert len({EDITORS["lazy"].edit(job, s).id for s in range(4)}) == 4
    assert StickerEdit(job, job.after, (), "x").id == "ids/0/x"
