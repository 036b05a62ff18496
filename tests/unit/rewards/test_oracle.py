import numpy as np
import pytest
from PIL import Image, ImageFilter

from editr1.rewards import EditSample, OracleReward, PixelPreservation
from editr1.rewards.oracle import keep_mask, sticker_task
from editr1.rewards.sticker_pixels import pixel_utility, recognise_backdrop
from editr1.stickers.draw import draw, pixels
from editr1.stickers.faults import EDITORS
from editr1.stickers.kinds import SIDE
from editr1.stickers.oracle import utility
from editr1.stickers.steps import Remove
from editr1.stickers.tasks import sample_task
from editr1.types import EditKind, VerdictStatus

TASKS = [sample_task("rewards-test", index) for index in range(22)]  # all kinds, twice


def as_sample(task, scene, **more):
    return EditSample(task.edit_task(), draw(scene), **more)


def test_with_its_scene_an_edit_gets_the_exact_utility():
    edits = [EDITORS["sloppy"].edit(task) for task in TASKS]
    results = OracleReward(scale="score").score([as_sample(e.task, e.scene, truth=e.scene) for e in edits])
    assert [r.value for r in results] == [utility(e.task, e.scene) for e in edits]
    assert len({r.value for r in results}) > 3


def test_right_edits_and_untouched_pictures_by_their_pixels():
    right = OracleReward().score([as_sample(t, t.after) for t in TASKS])
    same = OracleReward().score([as_sample(t, t.before) for t in TASKS])
    assert min(r.value for r in right) > 0.9
    assert [r.value for r in same] == [0.0] * len(TASKS)


def test_a_soft_copy_of_a_right_edit_is_still_right():
    """What an autoencoder makes of a picture: a little blur, a little noise."""
    rng = np.random.default_rng(0)
    worth = []
    for task in TASKS:
        soft = np.asarray(draw(task.after).filter(ImageFilter.GaussianBlur(0.6)), np.float32)
        noisy = np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
        worth.append(pixel_utility(task, Image.fromarray(noisy)))
    assert np.mean(worth) > 8.5
    assert min(worth) > 5


def test_garbage_is_worth_little():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    others = [draw(sample_task("elsewhere", index).before) for index in range(len(TASKS))]
    assert max(pixel_utility(task, noise) for task in TASKS) < 2
    assert np.mean([pixel_utility(task, other) for task, other in zip(TASKS, others)]) < 1


def test_read_off_pixels_it_agrees_with_the_exact_one():
    """Over all simulated editors and kinds of task, on edits that are drawn, so that both can be computed."""
    edits = [editor.edit(sample_task("agree", index)) for index in range(33) for editor in EDITORS.values()]
    exact = np.array([utility(e.task, e.scene) for e in edits])
    read = np.array([pixel_utility(e.task, e.picture()) for e in edits])
    assert np.corrcoef(exact, read)[0, 1] > 0.8
    assert np.abs(exact - read).mean() < 1.4


def test_half_of_two_steps_is_worth_half():
    task = sample_task("half", 0, EditKind.REMOVE, multi_step=True)
    scene = task.steps[0].apply(task.before)
    share = 1 / len(task.steps)
    assert pixel_utility(task, draw(scene)) == pytest.approx(10 * share, abs=1.5)


def test_with_a_new_backdrop_too_every_step_has_to_be_done():
    """What a removed sticker bares is a backdrop that nobody can foresee: still, left in place it is not removed."""
    several = [sample_task("mixed", i, EditKind.BACKGROUND, multi_step=True) for i in range(12)]
    assert any(isinstance(step, Remove) for task in several for step in task.steps)
    for task in several:
        if task.touches & {"style", "tone"}:
            continue
        assert pixel_utility(task, draw(task.before)) == 0
        assert pixel_utility(task, draw(task.after)) > 9
        only_backdrop = draw(task.steps[0].apply(task.before))
        assert pixel_utility(task, only_backdrop) == pytest.approx(10 / len(task.steps), abs=2)


def test_backdrops_are_told_apart():
    scenes = [sample_task("backdrops", index).before for index in range(40)]
    everywhere = np.ones((SIDE, SIDE), bool)
    found = [recognise_backdrop(pixels(s).astype(np.float32), everywhere) for s in scenes]
    assert np.mean([f == s.backdrop.kind for f, s in zip(found, scenes)]) > 0.9


def test_a_sample_of_no_sticker_task_fails_alone():
    task = TASKS[0]
    stranger = EditSample(type(task.edit_task())("photo-17", draw(task.before), "x"), draw(task.after))
    bad, good = OracleReward().score([stranger, as_sample(task, task.after)])
    assert (bad.status, good.ok) == (VerdictStatus.ERROR, True)
    assert "photo-17" in bad.error


@pytest.mark.parametrize("task", [TASKS[3], sample_task("t", 5, EditKind.ADD), sample_task("t", 5, EditKind.ADD, True)])
def test_an_id_names_its_task(task):
    found = sticker_task(task.id)
    told = ("id", "before", "after", "steps", "instruction", "principles")  # probes hold functions
    assert [getattr(found, name) for name in told] == [getattr(task, name) for name in told]


def test_the_mask_of_pixels_to_keep():
    reward = PixelPreservation(mask_of=keep_mask)
    everywhere = {"style", "tone", "backdrop"}
    local = [t for t in TASKS if t.kind in (EditKind.REMOVE, EditKind.COLOR) and not t.touches & everywhere]
    assert local
    assert [r.value for r in reward.score([as_sample(t, t.after) for t in local])] == [1.0] * len(local)
    spoilt = [EDITORS["rough"].edit(t, seed) for t in local for seed in range(3)]
    assert min(r.value for r in reward.score([as_sample(e.task, e.scene) for e in spoilt])) < 0.95
