import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from editr1.errors import ConfigError
from editr1.rewards import EditSample, PixelPreservation
from editr1.rewards.pixels import derived_mask
from editr1.types import EditKind, EditTask, VerdictStatus

SOURCE = np.full((10, 20, 3), 100, np.uint8)


def edit(edited, kind=None, keep=None):
    return EditSample(EditTask("t", SOURCE, "do", kind=kind), edited, keep=keep)


def one(reward, *args, **kwargs):
    [result] = reward.score([edit(*args, **kwargs)])
    return result


def changed(rows, by=100):
    picture = SOURCE.copy()
    picture[:rows] += np.uint8(by)
    return picture


def keep_rows(first):
    mask = np.zeros((10, 20), bool)
    mask[first:] = True
    return mask


def test_share_of_the_mask_by_hand():
    """Rows 4 to 9 had to stay; the edit reaches down to row 6 and so hurts 3 of these 6 rows."""
    assert one(PixelPreservation(), changed(7), keep=keep_rows(4)).value == pytest.approx(0.5)
    assert one(PixelPreservation(), changed(4), keep=keep_rows(4)).value == 1.0


def test_tolerance_is_in_levels_of_the_channel_that_moved_most():
    picture = SOURCE.copy()
    picture[..., 1] += 16
    assert one(PixelPreservation(tolerance=16), picture, keep=keep_rows(0)).value == 1.0
    picture[..., 1] += 1
    assert one(PixelPreservation(tolerance=16), picture, keep=keep_rows(0)).value == 0.0


def test_derived_by_hand():
    """Half of the rows changed, 40 % may: of the 6 rows that had to stay 1 did not."""
    assert one(PixelPreservation(allowance=0.4), changed(5)).value == pytest.approx(5 / 6)
    assert one(PixelPreservation(allowance=0.4), changed(4)).value == 1.0
    assert one(PixelPreservation(allowance=0.4), changed(10)).value == 0.0


def test_what_changed_most_is_what_was_asked_for():
    """Rows 0-3 by 100, all others by 20: the 20 are drift, and no row stayed."""
    picture = changed(4)
    picture[4:] += 20
    assert one(PixelPreservation(allowance=0.4), picture).value == 0.0


@given(st.lists(st.integers(0, 255), min_size=4, max_size=60), st.floats(0.05, 0.95))
def test_the_derived_mask_keeps_the_least_changed(levels, allowance):
    change = np.array([levels], np.float32)
    mask = derived_mask(change, allowance)
    assert (~mask).sum() == int(allowance * len(levels))
    if mask.any() and (~mask).any():
        assert change[mask].max() <= change[~mask].min()


def test_the_edited_picture_is_brought_to_size():
    big = Image.new("RGB", (40, 20), (100, 100, 100))
    assert one(PixelPreservation(), big, keep=keep_rows(0)).value == 1.0


@pytest.mark.parametrize("kind", [EditKind.BACKGROUND, EditKind.STYLE, EditKind.TONE])
def test_where_nothing_had_to_stay_there_is_no_number(kind):
    result = one(PixelPreservation(), changed(3), kind=kind)
    assert (result.status, result.value) == (VerdictStatus.ERROR, None)
    assert kind.value in result.error
    assert one(PixelPreservation(), changed(3), kind=kind, keep=keep_rows(5)).value == 1.0
    assert not one(PixelPreservation(), changed(3), keep=keep_rows(10)).ok


def test_the_mask_given_by_a_function_goes_first():
    reward = PixelPreservation(mask_of=lambda s: keep_rows(8))
    assert one(reward, changed(8), keep=keep_rows(0)).value == 1.0
    assert one(PixelPreservation(mask_of=lambda s: None), changed(8), keep=keep_rows(8)).value == 1.0


@pytest.mark.parametrize("mask", [np.ones((20, 10), bool), np.ones((10, 20), np.uint8), np.ones((10, 20, 1), bool)])
def test_a_mask_that_does_not_fit_fails_its_sample_alone(mask):
    reward = PixelPreservation()
    bad, good = reward.score([edit(changed(1), keep=mask), edit(changed(1))])
    assert "give bool" in bad.error
    assert good.ok


@pytest.mark.parametrize("options", [{"tolerance": 255}, {"tolerance": -1}, {"allowance": 0.0}, {"allowance": 1.0}])
def test_bad_options(options):
    with pytest.raises(ConfigError):
        PixelPreservation(**options)
