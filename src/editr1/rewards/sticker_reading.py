"""A scene read off the pixels of an edit that no scene was drawn from: what a simulated judge of a real editor sees.

What may become of a task is known, and can be drawn: the right result, the source, and what each fault makes of it. A
picture is read as the one of them that it is nearest to, by mean absolute difference and by how far each step was
followed. What differs from it all the same is no fault that can be drawn, such as smears or half a sticker: it is read
as blur, the more of it the stronger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image

from editr1.rewards.sticker_pixels import changed, drawn, levels, pixel_utility, recognise_backdrop, step_progress
from editr1.stickers.draw import caption_mask, sticker_mask
from editr1.stickers.faults import FAULTS, RIGHT, StickerEdit
from editr1.stickers.kinds import SIDE
from editr1.stickers.scene import Backdrop, Scene
from editr1.stickers.tasks import StickerTask

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_DRAWS = 4
"""Tries of each fault, whose colours, places and objects are chance."""
_PER_STEP = 20.0  # levels of 255 that a step taken for followed counts, where it was not, or the other way round
_EXACT = 3.0  # levels; an autoencoder's copy differs by 5 and more
_SMEARED = ((0.25, 1.8), (0.18, 1.5), (0.12, 1.2), (0.07, 0.9))  # share of pixels that differ, radius it is read as


def read_edit(task: StickerTask, picture: Image.Image, editor: str = "read") -> StickerEdit:
    """An edit as simulated judges take it; its worth is what the oracle reads off the pixels.

    Args:
        task: the context.
        picture: RGB of any size.
        editor: whose picture it is.
    """
    return StickerEdit(task, read_scene(task, picture), (), editor, pixel_utility(task, picture))


def read_scene(task: StickerTask, picture: Image.Image) -> Scene:
    """The scene that a picture is nearest to, see the module's description.

    Where a new backdrop was asked for, whose crop is the editor's choice, it is recognised by its colours and texture,
    and drawings are compared where something covers it.

    Args:
        task: the context.
        picture: RGB of any size.
    """
    seen = levels(picture)
    scenes = [scene for _, scene in candidates(task)]
    where = np.ones((SIDE, SIDE), bool)
    if "backdrop" in task.touches:
        scenes, where = _on_its_backdrop(task, seen, scenes)
    apart = np.array([np.abs(seen - drawn(scene))[where].mean() for scene in scenes])
    if apart.min() > _EXACT:
        progress = np.array(step_progress(task, seen))
        apart += [_PER_STEP * np.abs(np.array(task.progress(scene)) - progress).mean() for scene in scenes]
    nearest = scenes[int(apart.argmin())]
    smeared = float(changed(seen, drawn(nearest))[where].mean())
    blur = next((radius for share, radius in _SMEARED if smeared > share), 0.0)
    return replace(nearest, blur=max(nearest.blur, blur))


def _on_its_backdrop(task: StickerTask, seen: Floats, scenes: Sequence[Scene]) -> tuple[list[Scene], Mask]:
    """The scenes with the backdrop that is recognised, and where to compare them."""
    bare = ~(covered(task.before) | covered(task.after))
    kind = recognise_backdrop(seen, bare)
    found = [scene for scene in scenes if scene.backdrop.kind == kind]
    where = ~bare if not bare.all() else bare
    return found or [replace(task.after, backdrop=Backdrop(kind, task.after.backdrop.seed))], where


@lru_cache(maxsize=512)
def candidates(task: StickerTask) -> list[tuple[str, Scene]]:
    """Scenes that an edit of a task may come to, with the names of faults: the right one first, and none twice."""
    found: dict[Scene, str] = {task.after: RIGHT, task.before: "nothing_happened"}
    rng = Random(f"candidates/{task.id}")
    for name, fault in FAULTS.items():
        for _ in range(_DRAWS):
            scene = fault(task, task.after, rng)
            if scene is not None:
                found.setdefault(scene, name)
    return [(name, scene) for scene, name in found.items()]


def covered(scene: Scene) -> Mask:
    """Where a sticker or the caption is, (SIDE, SIDE)."""
    mask = np.zeros((SIDE, SIDE), bool)
    for sticker in scene.stickers:
        mask |= sticker_mask(sticker)
    return mask if scene.caption is None else mask | caption_mask(scene.caption)
