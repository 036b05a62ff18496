from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editr1.stickers.kinds import CELLS
from editr1.stickers.scene import Backdrop, Caption, Scene, Sticker, describe
from editr1.stickers.tasks import sample_scene

GRASS = Backdrop("grass", 1)


def test_describe_by_hand():
    scene = Scene(
        GRASS,
        (Sticker("star", "top left"), Sticker("apple", "center", finish="green", turned=True)),
        Caption("SALE", "bottom"),
        tone="darker",
        blur=1.2,
    )
    assert describe(scene) == (
        "on grass: star top left; upside-down green apple center. Text SALE bottom. Darker. Blurred."
    )


def test_styles_hide_colours_but_not_materials():
    stickers = (Sticker("apple", "left", finish="green"), Sticker("car", "right", finish="wood"))
    assert describe(Scene(GRASS, stickers, style="sepia")) == "on grass: apple left; wooden car right. No text. Sepia."
    assert "green apple" in describe(Scene(GRASS, stickers, style="pixel"))


def test_faces_and_only_faces_have_expressions():
    assert Sticker("face", "top", expression="smiling", glasses=True).phrase() == "smiling face with glasses"
    with pytest.raises(ValueError, match="expression"):
        Sticker("face", "top")
    with pytest.raises(ValueError, match="expression"):
        Sticker("star", "top", expression="smiling")
    with pytest.raises(ValueError, match="no such kind"):
        Sticker("unicorn", "top")


def test_put_change_and_drop():
    scene = Scene(GRASS, (Sticker("star", "top left"),))
    two = scene.put(Sticker("apple", "top"))
    assert [s.kind for s in two.stickers] == ["star", "apple"]
    moved = two.change("star", cell="bottom")
    assert [s.kind for s in moved.stickers] == ["apple", "star"]  # reading order
    assert moved.drop("star").find("star") is None
    assert scene.change("car", cell="top") == scene


def test_looks_like_ignores_place_only():
    star = Sticker("star", "top", finish="red")
    assert replace(star, cell="left", dx=1, size=22).looks_like(star)
    assert not replace(star, finish="blue").looks_like(star)


@given(st.randoms(use_true_random=False))
def test_sampled_scenes_are_well_formed(rng):
    scene = sample_scene(rng)
    assert 2 <= len(scene.stickers) <= 5
    assert len({s.kind for s in scene.stickers}) == len({s.cell for s in scene.stickers}) == len(scene.stickers)
    if scene.caption:
        row = 0 if scene.caption.row == "top" else 2
        assert all(CELLS[s.cell][1] != row for s in scene.stickers)
    assert not {s.cell for s in scene.stickers} & set(scene.free_cells)
