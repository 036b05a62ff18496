"""Scenes read off pixels, on edits that are drawn, so that the true scene is known."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from editr1.rewards.sticker_pixels import pixel_utility
from editr1.rewards.sticker_reading import candidates, read_edit, read_scene
from editr1.stickers.annotators import STRICT, SimulatedJudge
from editr1.stickers.draw import draw
from editr1.stickers.faults import EDITORS, StickerEdit
from editr1.stickers.oracle import utility
from editr1.stickers.tasks import sample_task

TASKS = [sample_task("reading", index) for index in range(22)]  # all kinds, twice
PLAIN = [task for task in TASKS if "backdrop" not in task.touches]
EXACT = SimulatedJudge("exact", step=0.01)
"""Sees all there is, and says what it sees."""


def test_what_a_fault_may_come_to_is_read_as_that():
    """Nearest to itself, and its steps are followed as far as they are; backdrops' crops are the editor's choice."""
    for task in PLAIN:
        for name, scene in candidates(task):
            if name in ("nothing_happened", "right", "something_vanishes", "half_done"):
                assert read_scene(task, draw(scene)) == scene, (task.id, name)


def test_a_new_backdrop_is_recognised_whatever_its_crop():
    tasks = [task for task in TASKS if "backdrop" in task.touches]
    for task in tasks:
        other = replace(task.after, backdrop=replace(task.after.backdrop, seed=task.after.backdrop.seed + 1))
        assert read_scene(task, draw(other)).backdrop.kind == task.after.backdrop.kind
    assert len(tasks) >= 2


def test_over_all_simulated_editors_the_reading_is_worth_what_the_scene_is():
    """Their faults' chance draws are others than those of the candidates, so not every reading is exact."""
    edits = [editor.edit(task) for task in TASKS for editor in EDITORS.values()]
    true = np.array([utility(e.task, e.scene) for e in edits])
    read = np.array([utility(e.task, read_scene(e.task, e.picture())) for e in edits])
    assert np.corrcoef(true, read)[0, 1] > 0.8
    assert np.median(np.abs(true - read)) < 0.5


def test_smears_are_read_as_blur_and_the_more_of_them_the_stronger():
    """A filter of a radius that no drawing has, from the left edge so far: more and more pixels differ."""
    task = next(task for task in PLAIN if task.after.style is None)
    sharp = draw(task.after)
    soft = sharp.filter(ImageFilter.GaussianBlur(4))
    blurs = []
    for width in (0, 24, 48, 96):
        picture = sharp.copy()
        picture.paste(soft.crop((0, 0, width, 96)), (0, 0))
        blurs.append(read_scene(task, picture).blur)
    assert blurs == sorted(blurs)
    assert (blurs[0], blurs[-1]) == (0.0, 1.8)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_an_edit_that_was_read_is_scored_by_its_pixels(share):
    """Half-finished ones have no scene; a judge that sees all gives them what the pixels are worth, to 0.01."""
    for task in PLAIN[:6]:
        picture = Image.blend(draw(task.before), draw(task.after), share)
        edit = read_edit(task, picture)
        assert edit.worth == pixel_utility(task, picture)
        assert EXACT.trace(edit).score == pytest.approx(edit.worth, abs=0.0051)


def test_what_a_judge_overlooks_counts_as_ever():
    """By hand: a lost sticker costs 2.5 (`_LOST`). Pixels say 6; who takes the sticker to be there says 8.5."""
    task = next(t for t in PLAIN if any(s.kind not in t.touches for s in t.before.stickers))
    bystander = next(s for s in task.after.stickers if s.kind not in task.touches)
    lost = task.after.drop(bystander.kind)
    assert utility(task, lost) == pytest.approx(7.5)
    edit = StickerEdit(task, lost, (), "read", worth=6.0)
    assert EXACT.trace(edit).score == pytest.approx(6.0)
    blind = replace(EXACT, overlooks_bystanders=1.0)
    assert blind.trace(edit).score == pytest.approx(8.5)
    assert STRICT.trace(replace(edit, worth=None)).score != STRICT.trace(edit).score
