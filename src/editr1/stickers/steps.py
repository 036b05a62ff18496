"""Single edit steps on a sticker, and what every step is: what it says, does, can get wrong, and how it is checked.

A step knows the scene before; `apply` gives the right scene, `miss` a scene with the field's typical half-right
result (a wrong colour, too short a move), `probes` the questions that tell whether it was followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from editr1.stickers.kinds import CELLS, COLORS, KINDS, MATERIALS
from editr1.stickers.probes import Probe, follow, look, sticker_probe
from editr1.stickers.scene import Scene, Sticker
from editr1.types import EditKind


class Step(Protocol):
    """One instruction on one thing."""

    @property
    def edit_kind(self) -> EditKind:
        """Which of GEdit's categories it is."""
        ...

    @property
    def touches(self) -> frozenset[str]:
        """Kinds of sticker that it is about; "backdrop", "caption", "style" and "tone" count as kinds here."""
        ...

    def phrases(self, before: Scene) -> tuple[str, ...]:
        """Several wordings, without capital and full stop."""
        ...

    def apply(self, scene: Scene) -> Scene:
        """The scene after the step, done right."""
        ...

    def miss(self, scene: Scene, rng: Random) -> Scene:
        """The scene after the step, done with the wrong value or too little."""
        ...

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        """What tells whether it was followed."""
        ...


def other(rng: Random, options: tuple[str, ...] | list[str], *not_these: str) -> str:
    """A random option that is none of those named."""
    return rng.choice([o for o in options if o not in not_these])


def a(phrase: str) -> str:
    """With its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@dataclass(frozen=True, slots=True)
class Repaint:
    """Another colour or material for one sticker."""

    kind: str
    finish: str
    touches = property(lambda self: frozenset({self.kind}))
    edit_kind = property(lambda self: EditKind.MATERIAL if self.finish in MATERIALS else EditKind.COLOR)

    def phrases(self, before: Scene) -> tuple[str, ...]:
        if self.finish in MATERIALS:
            stuff = {"gold": "gold", "wood": "wood", "checker": "a checker pattern"}[self.finish]
            return (f"fill the {self.kind} with {stuff}", f"make the {self.kind} look as if made of {stuff}")
        return (
            f"make the {self.kind} {self.finish}",
            f"change the color of the {self.kind} to {self.finish}",
            f"paint the {self.kind} {self.finish}",
        )

    def apply(self, scene: Scene) -> Scene:
        return scene.change(self.kind, finish=self.finish)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        old = scene.find(self.kind)
        not_these = (self.finish, old.finish if old else "", *KINDS[self.kind].hue)
        return scene.change(self.kind, finish=other(rng, (*COLORS, *MATERIALS), *not_these))

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        word = {"gold": "golden", "wood": "wooden", "checker": "checkered"}.get(self.finish, self.finish)
        return (sticker_probe(f"Is the {self.kind} {word} now?", word, self.kind, lambda s: s.finish == self.finish),)


@dataclass(frozen=True, slots=True)
class Move:
    """Another place for one sticker."""

    kind: str
    cell: str
    edit_kind = EditKind.MOTION
    touches = property(lambda self: frozenset({self.kind}))

    def phrases(self, before: Scene) -> tuple[str, ...]:
        return (
            f"move the {self.kind} to the {self.cell}",
            f"shift the {self.kind} over to the {self.cell}",
            f"put the {self.kind} at the {self.cell} instead",
        )

    def apply(self, scene: Scene) -> Scene:
        return scene.change(self.kind, cell=self.cell)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        """Moved the right way, by about 7 pixels."""
        sticker = scene.find(self.kind)
        if sticker is None:
            return scene
        (c0, r0), (c1, r1) = CELLS[sticker.cell], CELLS[self.cell]
        step = [(c1 > c0) - (c1 < c0), (r1 > r0) - (r1 < r0)]
        return scene.change(self.kind, dx=sticker.dx + 7 * step[0], dy=sticker.dy + 7 * step[1])

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        old = before.find(self.kind)
        old_cell = old.cell if old else ""

        def left(seen: Scene) -> tuple[bool, str]:
            now = seen.find(self.kind)
            return now is None or now.cell != old_cell, look(seen, self.kind)

        return (
            sticker_probe(
                f"Is the {self.kind} at the {self.cell}?", self.cell, self.kind, lambda s: s.cell == self.cell
            ),
            follow(f"Has the {self.kind} left the {old_cell}?", f"not {old_cell}", left),
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """Upside down, or mirrored."""

    kind: str
    mirror: bool
    edit_kind = EditKind.MOTION
    touches = property(lambda self: frozenset({self.kind}))

    def phrases(self, before: Scene) -> tuple[str, ...]:
        if self.mirror:
            return (f"flip the {self.kind} horizontally", f"mirror the {self.kind}")
        return (f"turn the {self.kind} upside down", f"stand the {self.kind} on its head")

    def apply(self, scene: Scene) -> Scene:
        return scene.change(self.kind, mirrored=True) if self.mirror else scene.change(self.kind, turned=True)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        """The other movement, where it can be told; else none."""
        if self.mirror:
            return scene.change(self.kind, turned=KINDS[self.kind].turns)
        return scene.change(self.kind, mirrored=KINDS[self.kind].mirrors)

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        if self.mirror:
            return (sticker_probe(f"Is the {self.kind} flipped?", "flipped", self.kind, lambda s: s.mirrored),)
        return (sticker_probe(f"Is the {self.kind} upside down?", "upside-down", self.kind, lambda s: s.turned),)


@dataclass(frozen=True, slots=True)
class Portrait:
    """Another expression of the face, or glasses on it; exactly one of the two is given."""

    expression: str | None = None
    glasses: bool | None = None
    edit_kind = EditKind.PORTRAIT
    touches = frozenset({"face"})

    def phrases(self, before: Scene) -> tuple[str, ...]:
        if self.glasses is not None:
            return ("give the face glasses", "put glasses on the face") if self.glasses else (
                "take the glasses off the face", "remove the glasses from the face")  # fmt: skip
        verb = {"smiling": "smile", "frowning": "frown", "neutral": "look neutral"}[str(self.expression)]
        return (f"make the face {verb}", f"let the face {verb}")

    def apply(self, scene: Scene) -> Scene:
        if self.glasses is not None:
            return scene.change("face", glasses=self.glasses)
        return scene.change("face", expression=self.expression)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        """A change, but of the other attribute."""
        face = scene.find("face")
        if face is None:
            return scene
        if self.glasses is not None:
            return scene.change("face", expression=other(rng, ("smiling", "frowning"), str(face.expression)))
        return scene.change("face", glasses=not face.glasses)

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        if self.glasses is not None:
            words = "Does the face wear glasses?" if self.glasses else "Is the face without glasses?"
            return (
                sticker_probe(
                    words, "with glasses" if self.glasses else "no glasses", "face", lambda s: s.glasses == self.glasses
                ),
            )
        return (
            sticker_probe(
                f"Is the face {self.expression}?",
                str(self.expression),
                "face",
                lambda s: s.expression == self.expression,
            ),
        )


@dataclass(frozen=True, slots=True)
class Add:
    """A new sticker."""

    sticker: Sticker
    edit_kind = EditKind.ADD
    touches = property(lambda self: frozenset({self.sticker.kind}))

    def phrases(self, before: Scene) -> tuple[str, ...]:
        thing, cell = a(self.sticker.phrase()), self.sticker.cell
        return (f"add {thing} at the {cell}", f"put {thing} at the {cell}", f"place {thing} in the {cell} part")

    def apply(self, scene: Scene) -> Scene:
        return scene.put(self.sticker)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        """In a wrong place, or of a wrong kind."""
        places = [c for c in scene.free_cells if c != self.sticker.cell]
        if places and rng.random() < 0.6:
            return scene.put(replace(self.sticker, cell=rng.choice(places)))
        kind = other(rng, list(KINDS), self.sticker.kind, *(s.kind for s in scene.stickers))
        return scene.put(replace(self.sticker, kind=kind, finish="natural"))

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        new = self.sticker
        return (
            sticker_probe(f"Is there {a(new.phrase())}?", new.phrase(), new.kind, lambda s: s.finish == new.finish),
            sticker_probe(
                f"Is the new {new.kind} at the {new.cell}?", new.cell, new.kind, lambda s: s.cell == new.cell
            ),
        )


@dataclass(frozen=True, slots=True)
class Remove:
    """One sticker less."""

    kind: str
    edit_kind = EditKind.REMOVE
    touches = property(lambda self: frozenset({self.kind}))

    def phrases(self, before: Scene) -> tuple[str, ...]:
        return (f"remove the {self.kind}", f"erase the {self.kind}", f"take the {self.kind} away")

    def apply(self, scene: Scene) -> Scene:
        return scene.drop(self.kind)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        """Moved away instead, or repainted."""
        if scene.free_cells and rng.random() < 0.5:
            return scene.change(self.kind, cell=rng.choice(scene.free_cells))
        return Repaint(self.kind, "").miss(scene, rng) if self.kind in KINDS else scene

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        def gone(seen: Scene) -> tuple[bool, str]:
            return seen.find(self.kind) is None, look(seen, self.kind)

        return (follow(f"Is the {self.kind} gone?", f"no {self.kind}", gone),)


@dataclass(frozen=True, slots=True)
class Replace:
    """One sticker in the place of another."""

    kind: str
    new: str
    edit_kind = EditKind.REPLACE
    touches = property(lambda self: frozenset({self.kind, self.new}))

    def phrases(self, before: Scene) -> tuple[str, ...]:
        return (
            f"replace the {self.kind} with {a(self.new)}",
            f"swap the {self.kind} for {a(self.new)}",
            f"turn the {self.kind} into {a(self.new)}",
        )

    def _swap(self, scene: Scene, kind: str) -> Scene:
        old = scene.find(self.kind)
        if old is None:
            return scene
        return scene.drop(self.kind).put(Sticker(kind, old.cell, old.dx, old.dy, old.size))

    def apply(self, scene: Scene) -> Scene:
        return self._swap(scene, self.new)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        """A third kind, or the new one beside the old."""
        if scene.free_cells and rng.random() < 0.5:
            return scene.put(Sticker(self.new, rng.choice(scene.free_cells)))
        return self._swap(scene, other(rng, list(KINDS), self.new, *(s.kind for s in scene.stickers)))

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        old = before.find(self.kind)
        cell = old.cell if old else ""

        def gone(seen: Scene) -> tuple[bool, str]:
            return seen.find(self.kind) is None, look(seen, self.kind)

        return (
            sticker_probe(
                f"Is there {a(self.new)} at the {cell}?", f"{self.new} {cell}", self.new, lambda s: s.cell == cell
            ),
            follow(f"Is the {self.kind} gone?", f"no {self.kind}", gone),
        )
