"""Faulty editors: the field's real mistakes on sticker scenes, at set rates. All of it is simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from PIL import Image

from editr1.stickers.draw import draw
from editr1.stickers.kinds import BACKDROPS, CELLS, KINDS, TONES, WORDS
from editr1.stickers.scene import Backdrop, Caption, Scene, Sticker
from editr1.stickers.steps import Repaint
from editr1.stickers.tasks import SEEDS, StickerTask, sample_scene

Fault = Callable[[StickerTask, Scene, Random], Scene | None]
"""(task, scene so far, rng) -> the scene with the fault, or None where it does not apply."""


def nothing_happened(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """The source comes back."""
    return task.before


def wrong_value(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """One step with a wrong colour, place, word, backdrop; a move that is too small; half a turn."""
    missed = rng.randrange(len(task.steps))
    out = task.before
    for i, step in enumerate(task.steps):
        out = step.miss(out, rng) if i == missed else step.apply(out)
    return out


def half_done(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """One of several steps left out."""
    if len(task.steps) < 2:
        return None
    left_out = rng.randrange(len(task.steps))
    out = task.before
    for i, step in enumerate(task.steps):
        out = out if i == left_out else step.apply(out)
    return out


def wrong_object(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """The (first) step is done to another sticker."""
    step = task.steps[0]
    own = getattr(step, "kind", None)
    others = [s.kind for s in task.before.stickers if s.kind != "face" and s.kind not in task.touches]
    if own is None or not others or task.before.find(own) is None or not hasattr(step, "__dataclass_fields__"):
        return None
    if isinstance(step, Repaint):
        others = [o for o in others if step.finish not in KINDS[o].hue]
        others = [o for o in others if (s := task.before.find(o)) and s.finish != step.finish]
    if not others:
        return None
    out = replace(step, kind=rng.choice(others)).apply(task.before)  # type: ignore[type-var]
    return None if out == task.before else out


def leak(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """The attribute that was asked for spreads to another sticker."""
    finishes = [s.finish for s in task.steps if isinstance(s, Repaint)]
    finishes += [st.finish for st in (getattr(s, "sticker", None) for s in task.steps) if st and st.finish != "natural"]
    if not finishes:
        return None
    finish = rng.choice(finishes)
    fits = [
        s.kind
        for s in scene.stickers
        if s.kind in KINDS and s.kind not in task.touches and finish not in (s.finish, *KINDS[s.kind].hue)
    ]
    return scene.change(rng.choice(fits), finish=finish) if fits else None


def backdrop_shifts(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """Another crop of the same backdrop."""
    if "backdrop" in task.touches:
        return None
    return replace(scene, backdrop=Backdrop(scene.backdrop.kind, rng.randrange(SEEDS)))


def backdrop_drifts(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """Another backdrop, unasked."""
    if "backdrop" in task.touches:
        return None
    kind = rng.choice([b for b in BACKDROPS if b != scene.backdrop.kind])
    return replace(scene, backdrop=Backdrop(kind, rng.randrange(SEEDS)))


def _bystanders(task: StickerTask, scene: Scene) -> list[Sticker]:
    return [s for s in scene.stickers if s.kind not in task.touches]


def something_vanishes(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """A sticker that should have stayed is gone."""
    others = _bystanders(task, scene)
    return scene.drop(rng.choice(others).kind) if others else None


def something_appears(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """A sticker that nobody asked for."""
    if not scene.free_cells:
        return None
    known = {s.kind for s in (*task.before.stickers, *task.after.stickers, *scene.stickers)}
    kind = rng.choice([k for k in KINDS if k not in known])
    return scene.put(Sticker(kind, rng.choice(scene.free_cells)))


def something_moves(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """A sticker that should have stayed is elsewhere."""
    others = _bystanders(task, scene)
    if not others or not scene.free_cells:
        return None
    return scene.change(rng.choice(others).kind, cell=rng.choice(scene.free_cells))


def something_is_repainted(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """A sticker that should have stayed has another colour."""
    others = [s for s in _bystanders(task, scene) if s.kind in KINDS]
    if not others or not scene.colors_show:
        return None
    return Repaint(rng.choice(others).kind, "natural").miss(scene, rng)


def text_garbled(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """The caption, untouched by the instruction, reads otherwise or is gone; or there is one where there was none."""
    if "caption" in task.touches:
        return None
    if scene.caption is None:
        rows = [r for r, y in (("top", 0), ("bottom", 2)) if all(CELLS[s.cell][1] != y for s in scene.stickers)]
        return replace(scene, caption=Caption(rng.choice(WORDS), rng.choice(rows))) if rows else None
    if rng.random() < 0.4:
        return replace(scene, caption=None)
    word = rng.choice([w for w in WORDS if w != scene.caption.word])
    return replace(scene, caption=Caption(word, scene.caption.row))


def tone_drifts(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """The whole picture is brighter, darker, warmer or cooler, unasked."""
    if {"tone", "style"} & task.touches:
        return None
    return replace(scene, tone=rng.choice(TONES))


def noise(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """Grain."""
    return replace(scene, noise=rng.randint(14, 40))


def blur(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """Softness."""
    return replace(scene, blur=rng.choice((0.9, 1.2, 1.5, 1.8)))


def border(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """A white frame."""
    return replace(scene, border=rng.randint(3, 7))


def oversaturation(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """Garish colours; not where a style hides them."""
    return replace(scene, saturation=rng.choice((2.0, 2.5, 3.0))) if scene.colors_show else None


def wrong_picture(task: StickerTask, scene: Scene, rng: Random) -> Scene | None:
    """Some other picture."""
    return sample_scene(rng)


FAULTS: dict[str, Fault] = {
    f.__name__: f
    for f in (
        nothing_happened, wrong_value, half_done, wrong_object, leak, backdrop_shifts, backdrop_drifts,
        something_vanishes, something_appears, something_moves, something_is_repainted, text_garbled, tone_drifts,
        noise, blur, border, oversaturation, wrong_picture,
    )
}  # fmt: skip

RIGHT = "right"
"""What an edit without a fault is called."""

STARTING_OVER = {"nothing_happened", "wrong_value", "half_done", "wrong_object", "wrong_picture"}
"""These replace the right result; the others are added to whatever there is. At most one of these per edit."""


@dataclass(frozen=True, slots=True)
class StickerEdit:
    """A finished edit of a simulated editor, or one that a scene was read off.

    Attributes:
        task: the context.
        scene: what is to be seen.
        faults: that were put into it.
        editor: who made it.
        worth: its utility in [0, 10] where that is known better than by the scene, as for pictures of a real editor.
    """

    task: StickerTask
    scene: Scene
    faults: tuple[str, ...]
    editor: str
    worth: float | None = None

    @property
    def id(self) -> str:
        """Unique within a run over one pool."""
        return f"{self.task.id}/{self.editor}"

    def picture(self) -> Image.Image:
        """The edited picture."""
        return draw(self.scene)


@dataclass(frozen=True, slots=True)
class Editor:
    """A simulated editor: how often it is right, and how its mistakes are weighted.

    Attributes:
        right: probability of a faultless edit.
        second: probability that a faulty edit has a second fault.
        weights: relative frequency of each fault; those not named have weight 1.
    """

    name: str
    right: float
    second: float
    weights: dict[str, float] = field(default_factory=dict)

    def edit(self, task: StickerTask, seed: int = 0) -> StickerEdit:
        """One edit; a function of editor, task and seed."""
        rng = Random(f"sticker-edit/{self.name}/{task.id}/{seed}")
        scene, faults = task.after, tuple[str, ...]()
        if rng.random() >= self.right:
            scene, faults = self._spoil(task, rng, 2 if rng.random() < self.second else 1)
        return StickerEdit(task, scene, faults, f"{self.name}-{seed}" if seed else self.name)

    def _spoil(self, task: StickerTask, rng: Random, number: int) -> tuple[Scene, tuple[str, ...]]:
        scene, chosen = task.after, list[str]()
        while len(chosen) < number:
            names = [n for n in FAULTS if n not in chosen and not (chosen and n in STARTING_OVER)]
            name = rng.choices(names, [self.weights.get(n, 1.0) for n in names])[0]
            out = FAULTS[name](task, scene, rng)
            if out is not None and out != scene:
                scene = out
                chosen.append(name)
        return scene, tuple(chosen)


EDITORS: dict[str, Editor] = {
    e.name: e
    for e in (
        Editor(
            "careful",
            0.55,
            0.10,
            {"nothing_happened": 2.0, "wrong_value": 4.0, "half_done": 3.0, "blur": 1.5, "wrong_picture": 0.1},
        ),
        Editor(
            "eager",
            0.30,
            0.45,
            {"leak": 5.0, "backdrop_drifts": 2.5, "something_appears": 2.5, "tone_drifts": 2.0, "wrong_picture": 0.2},
        ),
        Editor(
            "lazy", 0.25, 0.15, {"nothing_happened": 7.0, "half_done": 8.0, "wrong_value": 4.0, "wrong_picture": 0.3}
        ),
        Editor(
            "sloppy",
            0.25,
            0.45,
            {
                "wrong_object": 6.0,
                "something_moves": 2.5,
                "something_vanishes": 2.5,
                "backdrop_shifts": 3.0,
                "text_garbled": 3.0,
            },
        ),
        Editor(
            "rough", 0.20, 0.55, {"noise": 5.0, "blur": 5.0, "border": 5.0, "oversaturation": 5.0, "wrong_value": 3.0}
        ),
    )
}
"""The pool, from an editor that is mostly right to one whose pictures are technically poor."""

CONTRAST = Editor(
    "contrast",
    right=0.12,
    second=0.75,
    weights={
        "nothing_happened": 5.0, "wrong_value": 6.0, "half_done": 4.0, "wrong_object": 4.0, "leak": 3.0,
        "wrong_picture": 3.0, "something_vanishes": 2.0, "something_appears": 2.0, "backdrop_shifts": 2.0,
        "noise": 3.0, "blur": 3.0, "border": 3.0, "oversaturation": 3.0,
    },
)  # fmt: skip
"""Mostly wrong, and not of the pool, in whose edits nine of ten principles are met: what teaches a verifier to look."""
