"""The oracle's utility read off pixels, for sticker edits that no scene was drawn from: those of a real editor.

`editr1.stickers.oracle.utility` knows the scene of an edit. An editor's picture has none, so it is held against
drawings of what was asked for. The size of the deductions is about the oracle's own; changes all over the picture cost
more here. On drawn edits, where both can be computed, a test holds this one against the exact one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from editr1.stickers.draw import backdrop_pixels, caption_mask, pixels, sticker_mask
from editr1.stickers.kinds import BACKDROPS, SIDE
from editr1.stickers.scene import Backdrop, Scene
from editr1.stickers.steps import Remove, Step
from editr1.stickers.steps_picture import ChangeBackdrop, Write
from editr1.stickers.tasks import StickerTask

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]

_VISIBLE = 8.0  # levels of 255 by which a step has to change a pixel for the pixel to tell whether it was done
_NOT_BEGUN, _DONE = 0.3, 0.8  # of the way from undone to done: an autoencoder's copy of a right edit comes to over 0.8
_CHANGED = 32.0  # levels, after a 3x3 mean, from which on a pixel counts as changed
_SMALL_SHARE, _PER_SHARE, _PER_FURTHER_SHARE = 0.1, 30.0, 3.0  # a lost sticker changes 8 % and costs about 2.5
_FORGIVEN, _PER_LEVEL, _MOST_FOR_FLAWS = 5.0, 0.05, 4.0  # mean difference; points for each level more
_CROPS = 24  # of each backdrop, to recognise it by


def pixel_utility(
    task: StickerTask, picture: Image.Image, *, minds_changes: float = 1.0, minds_flaws: float = 1.0
) -> float:
    """How usable an edited picture is, in [0, 10].

    10 times the mean progress of the steps, less what changed unasked. Nothing that was asked for: 0.

    Args:
        task: the context.
        picture: RGB of any size; it is brought to SIDE x SIDE.
        minds_changes: weight of unasked changes; other than 1 it is the utility to somebody else.
        minds_flaws: weight of flaws, likewise.
    """
    seen = levels(picture)
    progress = step_progress(task, seen)
    if not any(progress):
        return 0.0
    cost = unasked_cost(task, seen, minds_changes=minds_changes, minds_flaws=minds_flaws)
    return float(np.clip(10 * np.mean(progress) - cost, 0, 10))


def levels(picture: Image.Image) -> Floats:
    """A picture of any size as (SIDE, SIDE, 3), in levels of 0-255."""
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGB"), dtype=np.float32)


@lru_cache(maxsize=512)
def drawn(scene: Scene) -> Floats:
    """A scene's picture, (SIDE, SIDE, 3), in levels of 0-255."""
    return pixels(scene).astype(np.float32)


def step_progress(task: StickerTask, seen: Floats) -> list[float]:
    """How far each step was followed, in [0, 1].

    A step is seen where it makes a difference: between the drawing with all steps and that with all but it. In those
    pixels the picture lies somewhere on the way from undone to done. A new backdrop, whose crop is the editor's choice,
    is recognised by its colours and texture instead.

    Args:
        task: the context.
        seen: (SIDE, SIDE, 3), in levels of 0-255.
    """
    before, after = drawn(task.before), drawn(task.after)
    drift = _unasked_difference(task, seen)
    shares = []
    for number, step in enumerate(task.steps):
        if isinstance(step, ChangeBackdrop):
            shares.append(_backdrop_progress(task, step, seen))
            continue
        without = drawn(_apply(task, [s for i, s in enumerate(task.steps) if i != number]))
        where = np.abs(after - without).mean(axis=2) > _VISIBLE
        if "backdrop" in task.touches:
            if _takes_away(step):
                shares.append(_gone(task, step, seen))
                continue
            where &= ~_bare(task.after)
        begun = where.any() and _left_behind(seen, before, after, where) > _NOT_BEGUN
        shares.append(_way(seen, without, after, where, drift) if begun else 0.0)
    return shares


def _way(seen: Floats, undone: Floats, done: Floats, where: Mask, drift: float) -> float:
    """How far pixels are on the way from undone to done, in [0, 1].

    What the picture differs by everywhere (grain, a colour cast) is taken off first: it costs points elsewhere.
    """
    to_done, to_undone, whole = (
        float(np.abs(a - b)[where].mean()) for a, b in ((seen, done), (seen, undone), (undone, done))
    )
    if to_done >= to_undone:
        return 0.0
    way = 1 - max(to_done - drift, 0.0) / whole
    return float(np.clip((way - _NOT_BEGUN) / (_DONE - _NOT_BEGUN), 0, 1))


def _takes_away(step: Step) -> bool:
    return isinstance(step, Remove) or (isinstance(step, Write) and step.word is None)


def _gone(task: StickerTask, step: Step, seen: Floats) -> float:
    """How far what a step takes away is no longer to be seen, in [0, 1]; what it bares is of the editor's choice."""
    before = drawn(task.before)
    where = np.abs(before - drawn(step.apply(task.before))).mean(axis=2) > _VISIBLE
    share = _left_behind(seen, before, drawn(task.after), where)
    return float(np.clip((share - _NOT_BEGUN) / (_DONE - _NOT_BEGUN), 0, 1))


def _left_behind(seen: Floats, before: Floats, after: Floats, where: Mask) -> float:
    """How far pixels are from the source, as a share of how far a right edit is from it."""
    off, whole = (float(np.abs(picture - before)[where].mean()) for picture in (seen, after))
    return off / max(whole, 1.0)


def unasked_cost(task: StickerTask, seen: Floats, *, minds_changes: float = 1.0, minds_flaws: float = 1.0) -> float:
    """Points for what changed and should not have, and for noise, blur, frames and garish colours.

    The picture is held against the closest drawing with some of the steps done, where no step touches a sticker or the
    caption; a bare backdrop that was to be changed is left out.
    """
    where = untouched(task)
    if not where.any():
        return 0.0
    closest = _closest(task, seen, where)
    share = float(changed(seen, closest)[where].sum()) / where.size
    changes = _PER_SHARE * min(share, _SMALL_SHARE) + _PER_FURTHER_SHARE * max(share - _SMALL_SHARE, 0.0)
    flaws = min(_PER_LEVEL * max(_unasked_difference(task, seen) - _FORGIVEN, 0.0), _MOST_FOR_FLAWS)
    return minds_changes * changes + minds_flaws * flaws


def changed(seen: Floats, drawing: Floats) -> Mask:
    """Pixels that differ from a drawing by more than noise does, (SIDE, SIDE)."""
    found: Mask = np.abs(_smooth(seen) - _smooth(drawing)).max(axis=2) > _CHANGED
    return found


def _unasked_difference(task: StickerTask, seen: Floats) -> float:
    """Mean difference in levels where nothing was to change."""
    where = untouched(task)
    return float(np.abs(seen - _closest(task, seen, where))[where].mean()) if where.any() else 0.0


def _closest(task: StickerTask, seen: Floats, where: Mask) -> Floats:
    """The drawing with some of the steps done that the pixels are closest to."""
    drawings = [drawn(_apply(task, steps)) for steps in _subsets(task.steps)]
    return min(drawings, key=lambda d: float(np.abs(seen - d)[where].mean()))


def untouched(task: StickerTask) -> Mask:
    """Pixels that no step is about, (SIDE, SIDE): unlike `must_stay`, those of a filtered picture are among them."""
    where = np.ones((SIDE, SIDE), bool)
    for scene in (task.before, task.after):
        for sticker in scene.stickers:
            if sticker.kind in task.touches:
                where &= ~sticker_mask(sticker)
        if "caption" in task.touches and scene.caption is not None:
            where &= ~caption_mask(scene.caption)
    return where & ~_bare(task.after) if "backdrop" in task.touches else where


def _backdrop_progress(task: StickerTask, step: ChangeBackdrop, seen: Floats) -> float:
    """1 for the right kind, 0 for the old one, a quarter for another: half of one question in two."""
    where = _bare(task.after) & _bare(task.before)
    if np.abs(seen - drawn(task.before))[where].mean() < _FORGIVEN:
        return 0.0
    found = recognise_backdrop(seen, where)
    return 1.0 if found == step.kind else 0.0 if found == task.before.backdrop.kind else 0.25


def recognise_backdrop(seen: Floats, where: Mask) -> str:
    """The kind of backdrop whose crops look most like these pixels.

    Args:
        seen: (SIDE, SIDE, 3), in levels of 0-255.
        where: the pixels to look at.
    """
    own = _shares(_codes(seen), where)
    distances = {k: min(np.abs(own - _shares(codes, where)).sum() for codes in _crops(k)) for k in BACKDROPS}
    return min(distances, key=lambda kind: distances[kind])


@cache
def _crops(kind: str) -> tuple[tuple[Codes, Codes], ...]:
    """Colour and edge codes of some crops, which are the same whatever pixels are looked at."""
    return tuple(_codes(backdrop_pixels(Backdrop(kind, -1 - n)).astype(np.float32)) for n in range(_CROPS))


def _codes(picture: Floats) -> tuple[Codes, Codes]:
    """Each pixel's colour, in 6 levels a channel, and the strength of its edge, in 7."""
    colours = np.clip(picture // 43, 0, 5).astype(np.intp) @ np.array([36, 6, 1])
    edges = np.digitize(np.hypot(*np.gradient(picture.mean(axis=2))), [1, 3, 6, 12, 24, 48])
    return colours, edges


def _shares(codes: tuple[Codes, Codes], where: Mask) -> Floats:
    """Shares of colours and of edge strengths among some pixels, each summing to 1."""
    colours, edges = codes
    counts = np.concatenate([np.bincount(colours[where], minlength=216), np.bincount(edges[where], minlength=7)])
    return (counts / max(int(where.sum()), 1)).astype(np.float32)


def _bare(scene: Scene) -> Mask:
    """Where nothing covers the backdrop."""
    bare = np.ones((SIDE, SIDE), bool)
    for sticker in scene.stickers:
        bare &= ~sticker_mask(sticker)
    return bare if scene.caption is None else bare & ~caption_mask(scene.caption)


def _apply(task: StickerTask, steps: Sequence[Step]) -> Scene:
    scene = task.before
    for step in steps:
        scene = step.apply(scene)
    return scene


def _subsets(steps: Sequence[Step]) -> list[Sequence[Step]]:
    return [chosen for number in range(len(steps) + 1) for chosen in combinations(steps, number)]


def _smooth(picture: Floats) -> Floats:
    """3x3 means, so that grain and a shifted edge do not count as changes."""
    return levels(Image.fromarray(picture.astype(np.uint8)).filter(ImageFilter.BoxBlur(1)))
