from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.stickers.compare import backdrop_change, reasoning, sticker_change
from editr1.stickers.scene import Backdrop, Caption, Scene, Sticker
from editr1.stickers.tasks import sample_task

BEFORE = Scene(
    Backdrop("dots", 1), (Sticker("apple", "top"), Sticker("cloud", "left", finish="red")), Caption("SALE", "bottom")
)


def test_every_thing_is_set_beside_what_became_of_it():
    """By hand: the backdrop is another crop, the apple turned blue and moved, the cloud went, a car came unasked."""
    after = Scene(
        Backdrop("dots", 2), (Sticker("apple", "right", finish="blue"), Sticker("car", "center")), None, tone="warmer"
    )
    after = replace(after, noise=20, border=4)
    assert reasoning(BEFORE, after, frozenset({"apple", "cloud"})).splitlines() == [
        "on dots > on dots: shifted",
        "apple top > blue apple right: moved, changed",
        "red cloud left > gone",
        "new car center: not asked",
        "text SALE bottom > no text: changed",
        "look > warmer",
        "flaws > noisy, framed",
    ]


def test_what_was_asked_for_is_named_so_and_without_a_task_nothing_is_said():
    after = BEFORE.put(Sticker("car", "center"))
    assert "new car center: asked" in reasoning(BEFORE, after, frozenset({"car"})).splitlines()
    assert "new car center" in reasoning(BEFORE, after).splitlines()


def test_looks_are_not_compared_where_the_style_hides_colors():
    painted = BEFORE.change("apple", finish="blue")
    assert "apple top > apple top: same" in reasoning(BEFORE, replace(painted, style="greyscale"))


def test_changes_of_stickers_and_backdrops():
    apple = Sticker("apple", "top")
    assert sticker_change(apple, apple) == "same"
    assert sticker_change(apple, replace(apple, dx=5)) == "nudged"
    assert sticker_change(apple, replace(apple, dx=5, finish="blue")) == "nudged, changed"
    assert sticker_change(apple, replace(apple, cell="left")) == "moved"
    assert backdrop_change(Backdrop("dots", 1), Backdrop("dots", 1)) == "same"
    assert backdrop_change(Backdrop("dots", 1), Backdrop("sea", 1)) == "changed"


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_a_scene_compared_with_itself_has_no_change(index):
    """No line but the last two lacks a relation, and each relation is "same"."""
    lines = reasoning(scene := sample_task("same", index).before, scene).splitlines()
    assert lines[-2:] == ["look > same", "flaws > none"]
    for line in lines[:-2]:
        left, right = line.split(" > ")
        assert right == f"{left}: same"
