"""What became of a task: pictures that were drawn are called what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image

from editr1.rewards.sticker_reading import candidates
from editr1.stickers.draw import draw
from editr1.stickers.faults import FAULTS
from editr1.stickers.scene import Backdrop
from editr1.stickers.tasks import sample_task
from editr1.training.pretrain.evaluate import (
    UNCLEAR,
    Outcome,
    classify,
    draw_grid,
    held_out_tasks,
    summarise,
)
from editr1.types import EditKind

TASKS = held_out_tasks("measure", 1)
LOCAL = [task for task in TASKS if "backdrop" not in task.touches]


def test_tasks_take_turns() -> None:
    assert Counter(task.kind for task in TASKS) == dict.fromkeys(EditKind, 1)


def test_right_and_unchanged_are_told_exactly() -> None:
    assert {classify(task, draw(task.after)).mode for task in LOCAL} == {"right"}
    assert {classify(task, draw(task.before)).mode for task in LOCAL} == {"nothing_happened"}
    assert classify(LOCAL[0], draw(LOCAL[0].after)).distance == 0


def test_every_candidate_is_called_by_its_name() -> None:
    for task in LOCAL[:2]:
        for name, scene in candidates(task):
            if not scene.noise:
                assert classify(task, draw(scene)).mode == name, (task.id, name)


def test_faults_that_are_no_candidates_are_hardly_ever_right() -> None:
    """Their chance draws, such as which object was taken for another, are others than those of the candidates."""
    rng = Random(5)
    drawn = [
        (task, scene)
        for task in LOCAL
        for _ in range(2)
        for name in ("wrong_value", "wrong_object", "half_done", "something_vanishes", "backdrop_drifts")
        if (scene := FAULTS[name](task, task.after, rng)) is not None and scene != task.after
    ]
    modes = Counter(classify(task, draw(scene)).mode for task, scene in drawn)
    assert len(drawn) > 45
    # a wrong colour can be nearer to the right one than any candidate is
    assert modes["right"] <= 0.03 * len(drawn), [(t.id, s) for t, s in drawn if classify(t, draw(s)).mode == "right"]


def test_half_way_is_not_right() -> None:
    """A quarter of the way from the right result to the source is close enough, nine tenths are nothing at all."""
    task = sample_task("measure", 0, EditKind.ADD, False)

    def mode(share: float) -> str:
        return classify(task, Image.blend(draw(task.after), draw(task.before), share)).mode

    assert (mode(0.25), mode(0.9)) == ("right", "nothing_happened")
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    assert classify(task, Image.fromarray(noise)).mode == UNCLEAR
    ruined = np.asarray(draw(task.after)).astype(np.int16)
    where = np.abs(ruined - np.asarray(draw(task.before))).mean(axis=2) > 8
    ruined[where] = 255 - ruined[where]
    assert classify(task, Image.fromarray(ruined.astype(np.uint8))).mode != "right"


def test_a_new_backdrop_may_be_any_crop() -> None:
    tasks = [sample_task("measure", number, EditKind.BACKGROUND, False) for number in range(6)]
    other = [draw(replace(t.after, backdrop=Backdrop(t.after.backdrop.kind, 7))) for t in tasks]
    assert [classify(t, picture).mode for t, picture in zip(tasks, other, strict=True)].count("right") >= 5
    assert [classify(t, draw(t.before)).mode for t in tasks].count("nothing_happened") >= 5
    rng = Random(1)
    wrong = [draw(t.steps[0].miss(t.before, rng)) for t in tasks]
    assert all(classify(t, picture).mode != "right" for t, picture in zip(tasks, wrong, strict=True))


def test_figures_by_hand() -> None:
    """Two of four right; of the adds one of two."""
    rows = [
        Outcome("a", "subject-add", "right", 1.0, 9.0),
        Outcome("b", "subject-add", UNCLEAR, 1.0, 3.0),
        Outcome("c", "text_change", "right", 1.0, 8.0),
        Outcome("d", "tone_transfer", "nothing_happened", 1.0, 0.0),
    ]
    assert summarise(rows) == {
        "right": 0.5,
        "oracle": 5.0,
        "good": 0.5,
        "right/subject-add": 0.5,
        "right/text_change": 1.0,
        "right/tone_transfer": 0.0,
        "mode/nothing_happened": 0.25,
        "mode/unclear": 0.25,
    }


def test_a_grid_has_a_row_for_each_task() -> None:
    tasks = TASKS[:3]
    made = [[draw(task.after), draw(task.before)] for task in tasks]
    named = [[classify(task, one) for one in pair] for task, pair in zip(tasks, made, strict=True)]
    grid = draw_grid(tasks, made, named)
    assert grid.height > 3 * 96
    assert grid.width > 4 * 96
    assert pytest.approx(np.asarray(draw(tasks[0].before)), abs=0) == np.asarray(grid)[6:102, 6:102]
