from dataclasses import replace

import numpy as np
import pytest

from editr1.stickers.draw import caption_mask, pixels, sticker_mask
from editr1.stickers.font import word_mask
from editr1.stickers.kinds import BACKDROPS, KINDS, SIDE, STYLES, TONES, WORDS
from editr1.stickers.scene import Backdrop, Caption, Scene, Sticker

PLAIN = Scene(Backdrop("sea", 3), (Sticker("star", "top left"), Sticker("apple", "center")))


def test_equal_scenes_have_equal_pixels_and_nothing_is_shared():
    first = pixels(PLAIN)
    first[:] = 0
    again = pixels(PLAIN)
    assert again.shape == (SIDE, SIDE, 3)
    assert again.dtype == np.uint8
    assert again.any()


def test_a_moved_sticker_changes_only_the_pixels_of_both_places():
    moved = PLAIN.change("star", cell="bottom right")
    differs = (pixels(PLAIN) != pixels(moved)).any(axis=-1)
    touched = sticker_mask(PLAIN.stickers[0]) | sticker_mask(moved.find("star"))
    assert differs.any()
    assert not (differs & ~touched).any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_finish_of_every_kind_looks_different(kind):
    finishes = [f for f in ("natural", "red", "green", "blue", "gold", "wood", "checker") if f not in KINDS[kind].hue]
    pictures = [pixels(Scene(PLAIN.backdrop, (Sticker(kind, "center", finish=f),))).astype(int) for f in finishes]
    for i, first in enumerate(pictures):
        for second in pictures[i + 1 :]:
            assert np.abs(first - second)[32:64, 32:64].mean() > 4


@pytest.mark.parametrize("kind", [k for k, v in KINDS.items() if v.turns])
def test_turning_shows(kind):
    upright, turned = (pixels(Scene(PLAIN.backdrop, (Sticker(kind, "center", turned=t),))).astype(int) for t in (0, 1))
    assert np.abs(upright - turned)[32:64, 32:64].mean() > 2


@pytest.mark.parametrize("change", [{"style": s} for s in STYLES] + [{"tone": t} for t in TONES] + [
    {"noise": 14}, {"blur": 0.9}, {"border": 3}, {"saturation": 2.0}, {"caption": Caption("WOW", "bottom")},
])  # fmt: skip
def test_every_change_shows(change):
    assert np.abs(pixels(replace(PLAIN, **change)).astype(int) - pixels(PLAIN)).mean() > 1.5


def test_greyscale_has_no_colour_and_a_border_is_white():
    grey = pixels(replace(PLAIN, style="greyscale")).astype(int)
    assert (grey.max(axis=-1) == grey.min(axis=-1)).all()
    framed = pixels(replace(PLAIN, border=4))
    assert (framed[:4] == 255).all()
    assert not (framed[4:-4, 4:-4] == 255).all()


def test_backdrops_are_told_apart_by_kind_and_by_seed():
    means = {k: pixels(Scene(Backdrop(k, 1), ())).astype(int) for k in BACKDROPS}
    for kind, picture in means.items():
        other = pixels(Scene(Backdrop(kind, 2), ())).astype(int)
        assert np.abs(picture - other).mean() > 3, kind
    assert len({p.tobytes() for p in means.values()}) == len(BACKDROPS)


def test_words():
    assert len({word_mask(w)[0].tobytes() for w in WORDS}) == len(WORDS)
    ink, outline = word_mask("WOW")
    assert ink.shape == (18, 38)  # (7 + 2) * 2 rows, (6 * 3 + 1) * 2 columns
    assert (outline | ink == outline).all()
    assert max(word_mask(w)[0].shape[1] for w in WORDS) <= SIDE
    assert caption_mask(Caption("WOW", "top"))[:30].any()
    with pytest.raises(ValueError, match="capital letters"):
        word_mask("no")
