"""What a small editor does with held-out tasks, by the nearest of the drawings that each could have led to.

A generated picture has no scene. But what can become of a task is known: the right result, the source as it was, and
what each fault makes of it, all of which can be drawn. A picture is called by the name of the nearest of them, by mean
absolute difference. The name "right" takes more: in the pixels that the task is about, the picture has to be at least
twice as close to the right result as the source is, and elsewhere it may differ by 16 levels of 255 in the mean; a
picture that is nearest to the right one and not that close is "unclear", and so is one that is far from all drawings,
by more than 32 levels. Where a new backdrop was asked for, whose crop is the editor's choice, it is recognised by its
colours and texture, and the drawings with that backdrop are compared where something covers it.

On pictures that were drawn the measure is exact, but for edits in which the chance draws of a fault were not among the
candidates; a test says so. `oracle` is the pixel oracle's utility beside it (`editr1.rewards.sticker_pixels`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from editr1.rewards.sticker_pixels import drawn, pixel_utility, recognise_backdrop
from editr1.rewards.sticker_reading import candidates, covered
from editr1.stickers.draw import pixels
from editr1.stickers.faults import RIGHT
from editr1.stickers.kinds import SIDE
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.types import EditKind

if TYPE_CHECKING:
    from editr1.editors import PipelineEditor

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

UNCLEAR = "unclear"

_CLOSE = 0.5
_STAYED = 16.0  # levels; an autoencoder's copy differs by 3 to 8, another backdrop by 40 and more
_FAR = 32.0  # levels
_VISIBLE = 8.0  # levels of 255 from which on a pixel tells whether the task was done
GOOD = 8.0
"""Oracle utility from which on an edit is nearly usable or better (section 3.2 of the paper)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task in one picture.

    Attributes:
        task: its id; kind: of edit.
        mode: "right", "unclear", or the name of a fault in `editr1.stickers.faults`.
        distance: mean absolute difference from the nearest drawing, in levels of 255.
        oracle: the pixel oracle's utility, in [0, 10].
    """

    task: str
    kind: str
    mode: str
    distance: float
    oracle: float


def held_out_tasks(split: str, per_kind: int) -> list[StickerTask]:
    """So many tasks of each kind, kinds taking turns, with the domain's usual share of several steps."""
    return [sample_task(split, index, kind) for index in range(per_kind) for kind in EditKind]


def classify(task: StickerTask, picture: Image.Image) -> Outcome:
    """The mode of a picture, see the module's description.

    Args:
        task: the context.
        picture: RGB, SIDE x SIDE.
    """
    seen = np.asarray(picture.convert("RGB"), dtype=np.float32)
    where = np.ones((SIDE, SIDE), bool)
    drawings = candidates(task)
    if "backdrop" in task.touches:
        bare = ~(covered(task.before) | covered(task.after))
        found = recognise_backdrop(seen, bare)
        drawings = [d for d in drawings if d[1].backdrop.kind == found]
        where = ~bare
        if not drawings:  # a backdrop that is neither the old one nor the one asked for
            return Outcome(task.id, task.kind.value, "wrong_value", float("nan"), pixel_utility(task, picture))
    distances = [float(np.abs(seen - drawn(scene))[where].mean()) for _, scene in drawings]
    nearest = int(np.argmin(distances))
    mode = drawings[nearest][0]
    if distances[nearest] > _FAR or (mode == RIGHT and not _is_close(task, seen)):
        mode = UNCLEAR
    return Outcome(task.id, task.kind.value, mode, distances[nearest], pixel_utility(task, picture))


def _is_close(task: StickerTask, seen: Floats) -> bool:
    """Whether a picture whose nearest drawing is the right result is close enough to it, see the module's description.

    On a new backdrop only what lies on it is looked at, and held against the source on the new backdrop.
    """
    before, after = drawn(replace(task.before, backdrop=task.after.backdrop)), drawn(task.after)
    where = covered(task.after) if "backdrop" in task.touches else np.ones((SIDE, SIDE), bool)
    asked = where & (np.abs(before - after).mean(axis=2) > _VISIBLE)
    off, whole = np.abs(seen - after).mean(axis=2), np.abs(before - after).mean(axis=2)
    done = not asked.any() or off[asked].mean() <= _CLOSE * whole[asked].mean()
    stays = where & ~asked
    return bool(done and (not stays.any() or off[stays].mean() <= _STAYED))


def sample_tasks(
    editor: PipelineEditor, tasks: Sequence[StickerTask], samples: int, steps: int | None = None, batch_size: int = 64
) -> list[list[Image.Image]]:
    """Pictures of each task, by the ODE, from the seeds 0 and following: the same noise in every measurement."""
    from editr1.editors import sample_images

    contexts = editor.encode([task.edit_task() for task in tasks])
    repeated = [context for context in contexts for _ in range(samples)]
    seeds = [task * 1000 + number for task in range(len(tasks)) for number in range(samples)]
    made = sample_images(editor, repeated, seeds, steps, batch_size=batch_size)
    return [made[start : start + samples] for start in range(0, len(made), samples)]


def summarise(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Figures of a measurement, all shares in [0, 1].

    Returns:
        right: share of right pictures; right/<kind>: of each kind of edit; mode/<mode>: share of each mode but right;
        oracle: mean utility, in [0, 10]; good: share of pictures with a utility of at least GOOD.
    """
    figures = {
        "right": fmean(o.mode == RIGHT for o in outcomes),
        "oracle": fmean(o.oracle for o in outcomes),
        "good": fmean(o.oracle >= GOOD for o in outcomes),
    }
    for kind in sorted({o.kind for o in outcomes}):
        figures[f"right/{kind}"] = fmean(o.mode == RIGHT for o in outcomes if o.kind == kind)
    for mode, count in sorted(Counter(o.mode for o in outcomes).items()):
        if mode != RIGHT:
            figures[f"mode/{mode}"] = count / len(outcomes)
    return figures


def measure_editor(
    editor: PipelineEditor, tasks: Sequence[StickerTask], samples: int, steps: int | None, keep: Path | None = None
) -> dict[str, float]:
    """Sample held-out tasks and name what became of them.

    Args:
        editor: to measure.
        tasks: held-out ones.
        samples: pictures of each.
        steps: of the sampler.
        keep: path without suffix; the first tasks go there as a grid (.png), all outcomes as .jsonl.

    Returns:
        as `summarise`.
    """
    pictures = sample_tasks(editor, tasks, samples, steps)
    outcomes = [[classify(task, one) for one in made] for task, made in zip(tasks, pictures, strict=True)]
    if keep is not None:
        rows = len(EditKind)
        draw_grid(tasks[:rows], pictures[:rows], outcomes[:rows]).save(keep.with_suffix(".png"))
        lines = [
            {"task": task.id, "instruction": task.instruction, "sample": number, "mode": o.mode, "oracle": o.oracle}
            for task, made in zip(tasks, outcomes, strict=True)
            for number, o in enumerate(made)
        ]
        keep.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return summarise([one for made in outcomes for one in made])


_TEXT = 190
_GAP = 6
_LABEL = 14


def draw_grid(
    tasks: Sequence[StickerTask], pictures: Sequence[Sequence[Image.Image]], outcomes: Sequence[Sequence[Outcome]]
) -> Image.Image:
    """A row for each task: source, instruction, right result, samples with their modes below."""
    across = 2 + max(map(len, pictures))
    cell = SIDE + _GAP
    sheet = Image.new("RGB", (across * cell + _TEXT + _GAP, len(tasks) * (cell + _LABEL) + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (task, made, named) in enumerate(zip(tasks, pictures, outcomes, strict=True)):
        top = _GAP + row * (cell + _LABEL)
        sheet.paste(Image.fromarray(pixels(task.before)), (_GAP, top))
        pen.multiline_text((cell + _GAP, top), _wrapped(f"{task.kind.value}\n{task.instruction}"), fill="black")
        left = cell + _TEXT + _GAP
        for picture, label in [(Image.fromarray(pixels(task.after)), "(right)")] + [
            (one, outcome.mode.replace("_", " ")) for one, outcome in zip(made, named, strict=True)
        ]:
            sheet.paste(picture, (left, top))
            pen.text((left, top + SIDE + 1), label[:18], fill="black")
            left += cell
    return sheet


def _wrapped(text: str) -> str:
    from textwrap import wrap

    return "\n".join(line for part in text.splitlines() for line in wrap(part, 30))
