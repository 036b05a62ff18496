from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.stickers.draw import pixels
from editr1.stickers.oracle import must_stay, utility
from editr1.stickers.tasks import sample_task
from editr1.types import Category, EditKind

INDICES = st.integers(0, 100_000)


@settings(max_examples=150, deadline=None)
@given(INDICES)
def test_the_right_edit_meets_every_principle_and_the_source_follows_none(index):
    task = sample_task("property", index)
    assert all(task.truth(task.after))
    assert task.progress(task.after) == [1.0] * len(task.steps)
    assert utility(task, task.after) == 10.0
    assert utility(task, task.before) == 0.0
    followed = [p for p, met in zip(task.principles, task.truth(task.before)) if met and p.category is Category.FOLLOW]
    assert len(followed) < sum(p.category is Category.FOLLOW for p in task.principles)


@settings(max_examples=100, deadline=None)
@given(INDICES)
def test_the_pixels_that_must_stay_do_stay_in_a_right_edit(index):
    task = sample_task("property", index)
    differs = (pixels(task.before) != pixels(task.after)).any(axis=-1)
    assert not (differs & must_stay(task)).any()


@settings(max_examples=60, deadline=None)
@given(INDICES)
def test_tasks_are_functions_of_split_and_index(index):
    first, second = sample_task("again", index), sample_task("again", index)
    assert (first.before, first.after, first.instruction, first.principles) == (
        second.before, second.after, second.instruction, second.principles)  # fmt: skip
    assert first.before != sample_task("other", index).before


def test_all_kinds_take_turns_and_a_third_or_so_has_several_steps():
    tasks = [sample_task("count", i) for i in range(660)]
    kinds = Counter(t.kind for t in tasks)
    assert set(kinds) == set(EditKind)
    assert set(kinds.values()) == {60}
    several = sum(len(t.steps) > 1 for t in tasks) / len(tasks)
    assert 0.24 < several < 0.36  # 30 %, within 3.4 standard deviations
    assert len({t.instruction for t in tasks}) > 550


@pytest.mark.parametrize("kind", EditKind)
def test_kind_and_number_of_steps_can_be_forced(kind):
    for index in range(8):
        one, more = sample_task("f", index, kind, False), sample_task("f", index, kind, True)
        assert (one.kind, len(one.steps)) == (kind, 1)
        assert more.kind is kind
        assert len(more.steps) >= 2
        touched = [t for s in more.steps for t in s.touches]
        assert len(touched) == len(set(touched)), "steps must not disturb each other"


@settings(max_examples=100, deadline=None)
@given(INDICES)
def test_principles_are_distinct_questions_of_all_three_families(index):
    principles = sample_task("property", index).principles
    assert len({p.question for p in principles}) == len(principles)
    assert all(p.question.endswith("?") for p in principles)
    assert {p.category for p in principles} == set(Category)
    assert 5 <= len(principles) <= 10
