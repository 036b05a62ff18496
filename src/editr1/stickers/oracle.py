"""The oracle: the exact truth about an edit, from the scenes before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from editr1.stickers.draw import caption_mask, sticker_mask
from editr1.stickers.kinds import SIDE
from editr1.stickers.scene import Scene
from editr1.stickers.tasks import StickerTask

FOLLOWED = 10.0
"""Utility of a faultless edit. What is missing of it is described in `utility`."""

_LOST, _NEW, _MOVED, _ALTERED, _NUDGED = 2.5, 2.0, 1.8, 1.5, 0.5
_BACKDROP, _CROP, _CAPTION, _FILTER = 3.0, 1.2, 2.0, 2.0


def utility(task: StickerTask, seen: Scene, *, minds_changes: float = 1.0, minds_flaws: float = 1.0) -> float:
    """How usable an edit is, in [0, 10]: 0 unusable, 5 partly, 8 nearly (section 3.2 of the paper).

    10 times the mean progress of the steps, less what was changed unasked (`damage`), less technical flaws
    (`flaw_cost`). Nothing happened, or nothing that was asked for: 0. With other weights than 1 it is the utility to
    somebody who minds unasked changes, or flaws, more or less than the oracle does.
    """
    progress = task.progress(seen)
    if seen == task.before or not any(progress):
        return 0.0
    worth = FOLLOWED * sum(progress) / len(progress)
    worth -= minds_changes * damage(task, seen) + minds_flaws * flaw_cost(seen)
    return min(max(worth, 0.0), 10.0)


def damage(task: StickerTask, seen: Scene) -> float:
    """Cost of the changes that nobody asked for."""
    total = 0.0
    wanted = {s.kind: s for s in task.after.stickers}
    for kind, sticker in wanted.items():
        now = seen.find(kind)
        if kind in task.touches:
            total += _touched_damage(task, seen, kind)
        elif now is None:
            total += _LOST
        else:
            total += _ALTERED * (not now.looks_like(sticker))
            total += _MOVED if now.cell != sticker.cell else _NUDGED * (now.center != sticker.center)
    known = wanted.keys() | {s.kind for s in task.before.stickers}
    total += _NEW * sum(s.kind not in known for s in seen.stickers)
    if "backdrop" not in task.touches and seen.backdrop != task.before.backdrop:
        total += _CROP if seen.backdrop.kind == task.before.backdrop.kind else _BACKDROP
    if "caption" not in task.touches and seen.caption != task.before.caption:
        total += _CAPTION
    if not {"style", "tone"} & task.touches and (seen.style, seen.tone) != (None, None):
        total += _FILTER
    return total


def _touched_damage(task: StickerTask, seen: Scene, kind: str) -> float:
    """What was changed on a sticker beyond what its step asked for; whether it was followed is not counted here."""
    old, goal, now = task.before.find(kind), task.after.find(kind), seen.find(kind)
    if old is None or goal is None:
        return 0.0
    if now is None:
        return _LOST
    strange = not (now.looks_like(goal) or now.looks_like(old))
    wandered = now.cell != old.cell and goal.cell == old.cell
    return 0.5 * _ALTERED * strange + _MOVED * wandered


def flaw_cost(seen: Scene) -> float:
    """Cost of noise, blur, frame and garish colours, growing with their strength."""
    cost = 0.0
    if seen.noise:
        cost += 1.0 + seen.noise / 20
    if seen.blur:
        cost += 0.8 + 1.2 * seen.blur
    if seen.border:
        cost += 1.5 + seen.border / 5
    if seen.saturation != 1.0:
        cost += 0.5 + 0.7 * (seen.saturation - 1)
    return cost


def must_stay(task: StickerTask) -> npt.NDArray[np.bool_]:
    """The pixels that a right edit leaves as they are, (SIDE, SIDE) bool.

    Those outside every sticker and caption that a step touches, before and after; none for edits of backdrop, style
    or tone.
    """
    stay = np.ones((SIDE, SIDE), bool)
    if {"backdrop", "style", "tone"} & task.touches:
        return ~stay
    for scene in (task.before, task.after):
        for sticker in scene.stickers:
            if sticker.kind in task.touches:
                stay &= ~sticker_mask(sticker)
        if "caption" in task.touches and scene.caption is not None:
            stay &= ~caption_mask(scene.caption)
    return stay


def clean(scene: Scene) -> Scene:
    """The scene without technical flaws."""
    return replace(scene, noise=0, blur=0.0, border=0, saturation=1.0)
