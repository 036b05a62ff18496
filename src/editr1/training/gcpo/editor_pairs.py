"""Simulated preference pairs over what a real editor makes of sticker tasks: two of its pictures, from other noise.

Drawn faults (`stickers.py`) are what the fine-tuned verifier knows. An editor's own faults are others: smears, a
backdrop that turned darker, half a sticker. What rewards an editor should know pictures like its own.
People are as simulated as ever: they see what the oracle reads off the pixels, weigh it by their taste, and add noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

from editr1.datasets.integrity import picture_bytes
from editr1.datasets.preferences import SIMULATED
from editr1.rewards.sticker_pixels import pixel_utility
from editr1.stickers import People
from editr1.stickers.annotators import PEOPLE, SimulatedHuman
from editr1.stickers.draw import draw
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.types import EditTask, PreferencePair

if TYPE_CHECKING:
    from PIL import Image

    from editr1.editors import PipelineEditor

AT_ONCE = 8
"""Contexts whose pictures are sampled together."""


def editor_pairs(
    editor: PipelineEditor,
    split: str,
    number: int,
    people: People = "plain",
    *,
    steps: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Iterator[PreferencePair]:
    """The first so many pairs of a split; a function of the editor, the split and the people.

    Args:
        editor: whose pictures are compared, by the ODE from noise of each picture's own seed.
        split: name of the draw of tasks.
        number: of pairs.
        people: who compares, a key of `PEOPLE`; each pair is shown to one of them.
        steps: of the sampler; None is the editor's own number.
        report: called with the number of pairs that are done.
    """
    from editr1.editors import sample_images

    for start in range(0, number, AT_ONCE):
        tasks = [sample_task(split, index) for index in range(start, min(start + AT_ONCE, number))]
        contexts = [context for context in editor.encode([task.edit_task() for task in tasks]) for _ in range(2)]
        seeds = [Random(f"editor-preference/{task.id}/{side}").getrandbits(63) for task in tasks for side in (0, 1)]
        pictures = sample_images(editor, contexts, seeds, steps, batch_size=2 * AT_ONCE)
        for position, task in enumerate(tasks):
            yield compared(task, pictures[2 * position], pictures[2 * position + 1], people)
        if report is not None:
            report(start + len(tasks))


def compared(task: StickerTask, first: Image.Image, second: Image.Image, people: People) -> PreferencePair:
    """Two pictures of a task, and what one of these people says of them."""
    human = Random(f"editor-preference/{task.id}").choice(PEOPLE[people])
    opinion = human.compares(worth(human, task, first), worth(human, task, second), f"{task.id}/pictures")
    preferred, other = (second, first) if opinion < 0 else (first, second)
    return PreferencePair(
        task=EditTask(task.id, picture_bytes(draw(task.before)), task.instruction, task.principles, task.kind),
        preferred=picture_bytes(preferred),
        other=picture_bytes(other),
        same=opinion == 0,
        annotator=f"{SIMULATED}{human.name}",
    )


def worth(human: SimulatedHuman, task: StickerTask, picture: Image.Image) -> float:
    """What a picture is worth to this human before noise, in [0, 10], read off its pixels."""
    return pixel_utility(task, picture, minds_changes=human.minds_changes, minds_flaws=human.minds_flaws)
