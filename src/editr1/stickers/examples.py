"""What the embedded models learn from: chats about sticker pictures with their right answers.

`describe` examples pretrain the base models; `judge` and `decompose` examples fine-tune a verifier. Every example is a
function of (split, index), so that a data set is a name and a range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from PIL import Image

from editr1.judges.base import Message, Picture, Text
from editr1.stickers.annotators import choose_trace
from editr1.stickers.compare import reasoning
from editr1.stickers.draw import draw
from editr1.stickers.faults import CONTRAST, EDITORS, StickerEdit
from editr1.stickers.kinds import CELLS, KINDS
from editr1.stickers.probes import Probe
from editr1.stickers.scene import Scene, describe
from editr1.stickers.tasks import StickerTask, keep_probes, quality_probes, sample_task
from editr1.types import Category
from editr1.verifier.render import format_principles, render_decompose, render_score
from editr1.verifier.template import load_template


@dataclass(frozen=True, slots=True)
class Example:
    """A chat and its right answer."""

    messages: tuple[Message, ...]
    answer: str


def sample_edit(split: str, index: int) -> StickerEdit:
    """An edit of some editor of the pool; a function of its arguments."""
    task = sample_task(split, index)
    rng = Random(f"sticker-editor/{split}/{index}")
    return rng.choice(list(EDITORS.values())).edit(task)


def judge_example(split: str, index: int) -> Example:
    """One edit of the pool of editors with the trace chosen from the pool of judges."""
    return _judged(sample_edit(split, index))


def _judged(edit: StickerEdit) -> Example:
    task = edit.task
    messages = render_score(
        load_template("compact"), draw(task.before), edit.picture(), task.instruction, task.principles
    )
    return Example(messages, choose_trace(edit).text())


def decompose_example(split: str, index: int) -> Example:
    """One context with its principles."""
    task: StickerTask = sample_task(split, index)
    messages = render_decompose(load_template("compact"), draw(task.before), task.instruction)
    return Example(messages, format_principles(task.principles))


def describe_example(split: str, index: int) -> Example:
    """One picture (or two, one an edit of the other) to describe, in whole or in part."""
    edit = sample_edit(split, index)
    rng = Random(f"sticker-describe/{split}/{index}")
    ask = rng.choices(list(_QUESTIONS), [3, 1, 2, 4])[0]
    return _QUESTIONS[ask](edit, rng)


def _chat(question: str, answer: str, *pictures: Image.Image) -> Example:
    content: list[Text | Picture] = []
    for name, picture in zip(("Picture: ",) if len(pictures) == 1 else ("First: ", "\nSecond: "), pictures):
        content += [Text(name), Picture(picture)]
    content.append(Text(f"\n{question}"))
    return Example((Message("system", (Text("Answer about the pictures."),)), Message("user", tuple(content))), answer)


def _whole(edit: StickerEdit, rng: Random) -> Example:
    scene = rng.choice((edit.task.before, edit.scene, edit.scene))
    question = rng.choice(("Describe the picture.", "What is in the picture?", "What can be seen?"))
    return _chat(question, describe(scene), draw(scene))


def _place(edit: StickerEdit, rng: Random) -> Example:
    scene: Scene = edit.scene
    cell = rng.choice(list(CELLS))
    there = next((s for s in scene.stickers if s.cell == cell), None)
    answer = there.phrase(scene.colors_show) if there else "nothing"
    return _chat(f"What is at the {cell}?", answer, draw(scene))


def _thing(edit: StickerEdit, rng: Random) -> Example:
    scene: Scene = edit.scene
    present = [s.kind for s in scene.stickers]
    kind = rng.choice(present) if present and rng.random() < 0.7 else rng.choice(list(KINDS))
    there = scene.find(kind)
    answer = f"{there.phrase(scene.colors_show)} {there.cell}" if there else f"no {kind}"
    return _chat(f"Where is the {kind}?", answer, draw(scene))


def _both(edit: StickerEdit, rng: Random) -> Example:
    """Of a mostly wrong edit: in those of the pool too little changes."""
    split, index = edit.task.id.rsplit("/", 1)
    edit = contrast_edit(split, int(index))
    return _chat(
        "Compare the pictures.", reasoning(edit.task.before, edit.scene), draw(edit.task.before), draw(edit.scene)
    )


_QUESTIONS: dict[str, Callable[[StickerEdit, Random], Example]] = {
    "whole": _whole,
    "place": _place,
    "thing": _thing,
    "both": _both,
}


def contrast_edit(split: str, index: int) -> StickerEdit:
    """An edit that is mostly wrong, with principles that ask for what went wrong.

    In the pool's edits nine of ten principles are met, and a small model learns to say yes. Here about six of ten are:
    the Keep and Quality principles are drawn from all that could be asked, the violated ones first.
    """
    task = sample_task(split, index)
    edit = CONTRAST.edit(task)
    rng = Random(f"sticker-contrast/{split}/{index}")
    followed = [p for p in task.probes if p.principle.category is Category.FOLLOW]
    kept = _violated_first(
        rng, keep_probes(task.before, task.after, task.touches), edit.scene, rng.choice((2, 3, 3, 4)), 2
    )
    sound = _violated_first(rng, quality_probes(), edit.scene, 2, 1)
    return replace(edit, task=replace(task, probes=(*followed, *kept, *sound)))


def _violated_first(rng: Random, probes: list[Probe], seen: Scene, number: int, violated: int) -> list[Probe]:
    """So many probes in random order, among them up to `violated` that the scene does not meet."""
    rng.shuffle(probes)
    unmet = [p for p in probes if not p.test(seen)[0]][:violated]
    chosen = [*unmet, *(p for p in probes if p not in unmet)][:number]
    rng.shuffle(chosen)
    return chosen


def verifier_example(split: str, index: int) -> Example:
    """The mixture that a verifier is fine-tuned on.

    Of ten: six mostly wrong edits and three of the pool's to judge, one instruction to decompose.
    """
    if index % 10 == 9:
        return decompose_example(split, index)
    return judge_example(split, index) if index % 10 >= 6 else _judged(contrast_edit(split, index))


EXAMPLES: dict[str, Callable[[str, int], Example]] = {"describe": describe_example, "verify": verifier_example}
"""Mixtures by name."""
