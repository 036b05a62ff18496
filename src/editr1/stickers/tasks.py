"""Editing tasks: a scene, an instruction of one to three steps, the right result, and principles with known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from editr1.stickers.compare import backdrop_change
from editr1.stickers.compare import look as look_of
from editr1.stickers.draw import draw
from editr1.stickers.kinds import BACKDROPS, CELLS, COLORS, FACES, KINDS, MATERIALS, STYLES, TONES, WORDS
from editr1.stickers.probes import Probe, keep, quality
from editr1.stickers.scene import Backdrop, Caption, Scene, Sticker, in_reading_order
from editr1.stickers.steps import Add, Move, Portrait, Remove, Repaint, Replace, Step, Turn
from editr1.stickers.steps_picture import ChangeBackdrop, SetTone, Stylize, Write
from editr1.types import EditKind, EditTask, Principle

SEEDS = 1_000_000
MULTI_STEP_SHARE = 0.3
_STYLE_MATES = {EditKind.REMOVE, EditKind.TEXT, EditKind.MOTION}
"""With a style that may hide colours, only these kinds of step are combined."""


@dataclass(frozen=True, slots=True)
class StickerTask:
    """A context whose every truth is known.

    Attributes:
        id: "<split>/<index>"; the task is a function of it.
        before, after: the scene, and the scene after a right edit.
        steps: what the instruction asks for, in its order.
        probes: the principles, each with its oracle.
    """

    id: str
    before: Scene
    after: Scene
    steps: tuple[Step, ...]
    instruction: str
    probes: tuple[Probe, ...]

    @property
    def kind(self) -> EditKind:
        """The category of the first step."""
        return self.steps[0].edit_kind

    @property
    def principles(self) -> tuple[Principle, ...]:
        """The probes' principles, Follow, Keep, Quality."""
        return tuple(p.principle for p in self.probes)

    @property
    def touches(self) -> frozenset[str]:
        """Everything that some step is about."""
        return frozenset().union(*(s.touches for s in self.steps))

    @property
    def known(self) -> frozenset[str]:
        """Kinds of sticker that are there before, or after a right edit; any other is new and unasked for."""
        return frozenset(s.kind for scene in (self.before, self.after) for s in scene.stickers)

    def truth(self, seen: Scene) -> list[bool]:
        """Whether a scene meets each principle."""
        return [p.test(seen)[0] for p in self.probes]

    def progress(self, seen: Scene) -> list[float]:
        """How far each step was followed: 1 wholly, less than 0.5 in part, 0 not at all."""
        shares = []
        for step in self.steps:
            met = [p.test(seen)[0] for p in step.probes(self.before)]
            shares.append(1.0 if all(met) else 0.5 * sum(met) / len(met))
        return shares

    def edit_task(self) -> EditTask:
        """As the verifier sees it: pixels instead of scenes, and the principles."""
        return EditTask(self.id, draw(self.before), self.instruction, self.principles, self.kind)


def sample_scene(rng: Random, face: bool | None = None, caption: bool | None = None) -> Scene:
    """A clean scene of two to five stickers; `face` and `caption` force their presence or absence."""
    text = None
    if caption if caption is not None else rng.random() < 0.35:
        text = Caption(rng.choice(WORDS), rng.choice(("top", "bottom")))
    empty = Scene(Backdrop(rng.choice(BACKDROPS), rng.randrange(SEEDS)), (), text)
    number = rng.choice((2, 2, 3, 3, 3, 4, 4, 5) if text is None else (2, 2, 3, 3, 4))
    kinds = rng.sample(list(KINDS), number)
    if face if face is not None else rng.random() < 0.25:
        kinds[0] = "face"
    cells = rng.sample(empty.free_cells, number)
    stickers = tuple(_sample_sticker(rng, kind, cell) for kind, cell in zip(kinds, cells, strict=True))
    return Scene(empty.backdrop, in_reading_order(stickers), text)


def _sample_sticker(rng: Random, kind: str, cell: str) -> Sticker:
    dx, dy, size = rng.randint(-2, 2), rng.randint(-2, 2), rng.choice((22, 24, 26, 28))
    if kind == "face":
        mood = rng.choice([m for m in FACES if m != "glasses"])
        return Sticker(kind, cell, dx, dy, size, expression=mood, glasses=rng.random() < 0.3)
    looks = KINDS[kind]
    finish = _paintable(rng, kind) if rng.random() < 0.35 else "natural"
    return Sticker(
        kind,
        cell,
        dx,
        dy,
        size,
        finish=finish,
        turned=looks.turns and rng.random() < 0.06,
        mirrored=looks.mirrors and rng.random() < 0.12,
    )


def _paintable(rng: Random, kind: str, *not_these: str) -> str:
    options = [f for f in (*COLORS, *COLORS, *MATERIALS) if f not in KINDS[kind].hue and f not in not_these]
    return rng.choice(options)


def _objects(scene: Scene, taken: frozenset[str]) -> list[Sticker]:
    return [s for s in scene.stickers if s.kind != "face" and s.kind not in taken]


def _change_backdrop(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    if "backdrop" in taken:
        return None
    kind = rng.choice([b for b in BACKDROPS if b != scene.backdrop.kind])
    return ChangeBackdrop(kind, rng.randrange(SEEDS))


def _recolor(rng: Random, scene: Scene, taken: frozenset[str], materials: bool = False) -> Step | None:
    things = _objects(scene, taken)
    if not things:
        return None
    thing = rng.choice(things)
    options = MATERIALS if materials else tuple(COLORS)
    free = [f for f in options if f not in KINDS[thing.kind].hue and f != thing.finish]
    return Repaint(thing.kind, rng.choice(free)) if free else None


def _material(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    return _recolor(rng, scene, taken, materials=True)


def _motion(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    things = [s for s in scene.stickers if s.kind not in taken]
    if not things:
        return None
    thing = rng.choice(things)
    looks = KINDS.get(thing.kind)
    ways = ["move", "move"]
    if looks and looks.turns and not thing.turned:
        ways.append("turn")
    if looks and looks.mirrors and not thing.mirrored:
        ways.append("mirror")
    way = rng.choice(ways)
    if way == "move":
        return Move(thing.kind, rng.choice(scene.free_cells)) if scene.free_cells else None
    return Turn(thing.kind, mirror=way == "mirror")


def _portrait(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    face = scene.find("face")
    if face is None or "face" in taken:
        return None
    if rng.random() < 0.45:
        return Portrait(glasses=not face.glasses)
    moods = [m for m in FACES if m not in ("glasses", face.expression)]
    return Portrait(expression=rng.choice(moods))


def _stylize(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    return None if "style" in taken or "tone" in taken else Stylize(rng.choice(STYLES))


def _tone(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    return None if "tone" in taken or "style" in taken else SetTone(rng.choice(TONES))


def _add(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    if not scene.free_cells or len(scene.stickers) >= 5:
        return None
    kind = rng.choice([k for k in KINDS if scene.find(k) is None and k not in taken])
    finish = _paintable(rng, kind) if rng.random() < 0.3 else "natural"
    return Add(Sticker(kind, rng.choice(scene.free_cells), finish=finish))


def _remove(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    things = [s for s in scene.stickers if s.kind not in taken]
    return Remove(rng.choice(things).kind) if len(things) > 1 else None


def _replace(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    things = [s for s in scene.stickers if s.kind not in taken]
    if not things:
        return None
    new = rng.choice([k for k in KINDS if scene.find(k) is None and k not in taken])
    return Replace(rng.choice(things).kind, new)


def _text(rng: Random, scene: Scene, taken: frozenset[str]) -> Step | None:
    if "caption" in taken:
        return None
    if scene.caption is not None:
        if rng.random() < 0.3:
            return Write(None, scene.caption.row)
        return Write(rng.choice([w for w in WORDS if w != scene.caption.word]), scene.caption.row)
    rows = [r for r, y in (("top", 0), ("bottom", 2)) if all(CELLS[s.cell][1] != y for s in scene.stickers)]
    return Write(rng.choice(WORDS), rng.choice(rows)) if rows else None


_SAMPLERS: dict[EditKind, Callable[[Random, Scene, frozenset[str]], Step | None]] = {
    EditKind.BACKGROUND: _change_backdrop,
    EditKind.COLOR: _recolor,
    EditKind.MATERIAL: _material,
    EditKind.MOTION: _motion,
    EditKind.PORTRAIT: _portrait,
    EditKind.STYLE: _stylize,
    EditKind.ADD: _add,
    EditKind.REMOVE: _remove,
    EditKind.REPLACE: _replace,
    EditKind.TEXT: _text,
    EditKind.TONE: _tone,
}


def sample_task(split: str, index: int, kind: EditKind | None = None, multi_step: bool | None = None) -> StickerTask:
    """The task number `index` of a split; a function of its arguments alone.

    Args:
        split: a name such as "train" or "test"; distinct splits share no scene but by chance.
        index: any non-negative number.
        kind: force the category of the first step; otherwise the categories take turns with the index.
        multi_step: force one step (False) or several (True); otherwise several in 30 % of tasks.
    """
    name = f"{split}/{index}" + (f"/{kind}" if kind else "") + ("" if multi_step is None else f"/{multi_step}")
    rng = Random(f"sticker-task/{name}")
    first = kind or list(_SAMPLERS)[index % len(_SAMPLERS)]
    several = multi_step if multi_step is not None else rng.random() < MULTI_STEP_SHARE
    while True:
        steps = _sample_steps(rng, first, rng.choice((2, 2, 3)) if several else 1)
        if steps is not None:
            before, chosen = steps
            break
    after = before
    for step in chosen:
        after = step.apply(after)
    phrases = [rng.choice(step.phrases(before)) for step in chosen]
    instruction = _join(rng, phrases)
    probes = _choose_probes(rng, before, after, chosen)
    return StickerTask(name, before, after, chosen, instruction, probes)


def _sample_steps(rng: Random, first: EditKind, number: int) -> tuple[Scene, tuple[Step, ...]] | None:
    """A scene, and steps on it that do not disturb each other; None when the draw did not work out."""
    before = sample_scene(rng, face=True if first is EditKind.PORTRAIT else None)
    scene, taken, steps = before, frozenset[str](), []
    kind = first
    for _ in range(number):
        step = _SAMPLERS[kind](rng, scene, taken)
        if step is None:
            return None
        steps.append(step)
        scene, taken = step.apply(scene), taken | step.touches
        styled = any(s.edit_kind is EditKind.STYLE for s in steps)
        mates = [k for k in _SAMPLERS if not styled or k in _STYLE_MATES]
        if not styled and any(s.edit_kind not in _STYLE_MATES for s in steps):
            mates = [k for k in mates if k is not EditKind.STYLE]
        kind = rng.choice(mates)
    return before, tuple(steps)


def _join(rng: Random, phrases: list[str]) -> str:
    if len(phrases) == 1:
        text = phrases[0]
    elif len(phrases) == 2:
        text = rng.choice((" and ", ", then ")).join(phrases)
    else:
        text = ", ".join(phrases[:-1]) + rng.choice((" and ", ", and finally ")) + phrases[-1]
    text = text[0].upper() + text[1:]
    return rng.choice((f"{text}.", f"{text}.", text, f"Please {text[0].lower()}{text[1:]}."))


def _choose_probes(rng: Random, before: Scene, after: Scene, steps: tuple[Step, ...]) -> tuple[Probe, ...]:
    """Two to four Follow, two to four Keep, two Quality."""
    followed = [p for step in steps for p in step.probes(before)][:4]
    kept = keep_probes(before, after, frozenset().union(*(s.touches for s in steps)))
    kept = rng.sample(kept, min(len(kept), rng.choice((2, 3, 3, 4))))
    return (*followed, *kept, *rng.sample(quality_probes(), 2))


def keep_probes(before: Scene, after: Scene, touches: frozenset[str]) -> list[Probe]:
    """Everything that nobody asked to change, as questions."""
    probes: list[Probe] = []
    for sticker in before.stickers:
        if sticker.kind not in touches:
            probes.append(_same_place(sticker))
            if after.colors_show:
                probes.append(_same_look(sticker))
        elif after.find(sticker.kind) is not None and after.find(sticker.kind).cell == sticker.cell:  # type: ignore[union-attr]
            probes.append(_same_place(sticker))
    if "backdrop" not in touches:
        probes.append(_same_backdrop(before))
    if "caption" not in touches:
        probes.append(_same_caption(before))
    if not {"style", "tone"} & touches:
        probes.append(_no_filter())
    probes.append(_nothing_new({s.kind for s in before.stickers} | {s.kind for s in after.stickers}))
    return probes


def _same_place(sticker: Sticker) -> Probe:
    def test(seen: Scene) -> tuple[bool, str]:
        now = seen.find(sticker.kind)
        if now is None:
            return False, "gone"
        return now.cell == sticker.cell, "same place" if now.cell == sticker.cell else f"moved {now.cell}"

    return keep(f"Is the {sticker.kind} still at the {sticker.cell}?", f"{sticker.kind} {sticker.cell}", test)


def _same_look(sticker: Sticker) -> Probe:
    def test(seen: Scene) -> tuple[bool, str]:
        now = seen.find(sticker.kind)
        if now is None:
            return False, "gone"
        return now.looks_like(sticker), "same look" if now.looks_like(sticker) else f"changed {now.phrase()}"

    return keep(f"Does the {sticker.kind} look the same as before?", sticker.phrase(), test)


def _same_backdrop(before: Scene) -> Probe:
    def test(seen: Scene) -> tuple[bool, str]:
        change = backdrop_change(before.backdrop, seen.backdrop)
        return change == "same", f"{change} {seen.backdrop.kind}" if change == "changed" else change

    return keep("Is the background unchanged?", "background", test)


def _same_caption(before: Scene) -> Probe:
    word = before.caption.word if before.caption else None

    def test(seen: Scene) -> tuple[bool, str]:
        now = seen.caption.word if seen.caption else None
        return now == word, f"text {now}" if now else "no text"

    if word is None:
        return keep("Is the picture still without text?", "no text", test)
    return keep(f'Does the text still read "{word}"?', f"text {word}", test)


def _no_filter() -> Probe:
    def test(seen: Scene) -> tuple[bool, str]:
        return seen.style is None and seen.tone is None, look_of(seen)

    return keep("Are style and tone of the picture unchanged?", "look", test)


def _nothing_new(known: set[str]) -> Probe:
    def test(seen: Scene) -> tuple[bool, str]:
        extra = [s.kind for s in seen.stickers if s.kind not in known]
        return not extra, f"new {extra[0]}" if extra else "nothing new"

    return keep("Is the picture free of things that nobody asked for?", "nothing new", test)


def quality_probes() -> list[Probe]:
    """The four questions on technical quality."""
    return [
        quality(
            "Is the picture free of noise?", "no noise", lambda s: (not s.noise, "noisy" if s.noise else "no noise")
        ),
        quality("Is the picture sharp?", "sharp", lambda s: (not s.blur, "blurred" if s.blur else "sharp")),
        quality(
            "Is the picture without a frame?",
            "no frame",
            lambda s: (not s.border, "framed" if s.border else "no frame"),
        ),
        quality(
            "Are the colors natural, not oversaturated?",
            "natural",
            lambda s: (s.saturation == 1.0, "oversaturated" if s.saturation != 1.0 else "natural"),
        ),
    ]
