"""Single edit steps on the picture as a whole: backdrop, style, tone, caption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from editr1.stickers.kinds import BACKDROPS, STYLES, TONES, WORDS
from editr1.stickers.probes import Probe, follow
from editr1.stickers.scene import Backdrop, Caption, Scene
from editr1.stickers.steps import other
from editr1.types import EditKind


@dataclass(frozen=True, slots=True)
class ChangeBackdrop:
    """Another background."""

    kind: str
    seed: int
    edit_kind = EditKind.BACKGROUND
    touches = frozenset({"backdrop"})

    def phrases(self, before: Scene) -> tuple[str, ...]:
        return (
            f"change the background to {self.kind}",
            f"replace the backdrop with {self.kind}",
            f"put everything on {self.kind} instead of {before.backdrop.kind}",
        )

    def apply(self, scene: Scene) -> Scene:
        return replace(scene, backdrop=Backdrop(self.kind, self.seed))

    def miss(self, scene: Scene, rng: Random) -> Scene:
        return replace(scene, backdrop=Backdrop(other(rng, BACKDROPS, self.kind, scene.backdrop.kind), self.seed))

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        def on(seen: Scene) -> tuple[bool, str]:
            return seen.backdrop.kind == self.kind, f"on {seen.backdrop.kind}"

        def gone(seen: Scene) -> tuple[bool, str]:
            return seen.backdrop.kind != before.backdrop.kind, f"on {seen.backdrop.kind}"

        return (
            follow(f"Is the background {self.kind}?", self.kind, on),
            follow(f"Is the old background of {before.backdrop.kind} gone?", f"not {before.backdrop.kind}", gone),
        )


@dataclass(frozen=True, slots=True)
class Stylize:
    """A style over the whole picture."""

    style: str
    edit_kind = EditKind.STYLE
    touches = frozenset({"style"})

    def phrases(self, before: Scene) -> tuple[str, ...]:
        name = {
            "greyscale": "a greyscale picture",
            "sepia": "an old sepia photo",
            "pixel": "pixel art",
            "sketch": "a pencil sketch",
        }[self.style]
        return (f"turn the picture into {name}", f"make it look like {name}")

    def apply(self, scene: Scene) -> Scene:
        return replace(scene, style=self.style)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        return replace(scene, style=other(rng, STYLES, self.style))

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        def styled(seen: Scene) -> tuple[bool, str]:
            return seen.style == self.style, f"{seen.style or 'plain'} look"

        def changed(seen: Scene) -> tuple[bool, str]:
            return seen.style is not None, f"{seen.style or 'plain'} look"

        return (
            follow(f"Is the picture in {self.style} style?", self.style, styled),
            follow("Has the style of the picture changed?", "not plain", changed),
        )


@dataclass(frozen=True, slots=True)
class SetTone:
    """A tone over the whole picture."""

    tone: str
    edit_kind = EditKind.TONE
    touches = frozenset({"tone"})

    def phrases(self, before: Scene) -> tuple[str, ...]:
        noun = {"brighter": "brighter", "darker": "darker", "warmer": "warmer", "cooler": "cooler"}[self.tone]
        return (f"make the picture {noun}", f"give the whole picture a {noun} tone")

    def apply(self, scene: Scene) -> Scene:
        return replace(scene, tone=self.tone)

    def miss(self, scene: Scene, rng: Random) -> Scene:
        return replace(scene, tone=other(rng, TONES, self.tone))

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        def toned(seen: Scene) -> tuple[bool, str]:
            return seen.tone == self.tone, f"{seen.tone or 'same'} tone"

        def changed(seen: Scene) -> tuple[bool, str]:
            return seen.tone is not None, f"{seen.tone or 'same'} tone"

        return (
            follow(f"Is the picture {self.tone} than before?", self.tone, toned),
            follow("Has the tone of the picture changed?", "not same", changed),
        )


@dataclass(frozen=True, slots=True)
class Write:
    """A caption added, changed (`word` over an old one) or removed (`word` is None)."""

    word: str | None
    row: str
    edit_kind = EditKind.TEXT
    touches = frozenset({"caption"})

    def phrases(self, before: Scene) -> tuple[str, ...]:
        if self.word is None:
            return ("remove the text", "erase the caption")
        if before.caption is not None:
            return (f'change the text to "{self.word}"', f'replace "{before.caption.word}" with "{self.word}"')
        return (f'write "{self.word}" at the {self.row}', f'add the text "{self.word}" at the {self.row}')

    def apply(self, scene: Scene) -> Scene:
        return replace(scene, caption=None if self.word is None else Caption(self.word, self.row))

    def miss(self, scene: Scene, rng: Random) -> Scene:
        old = scene.caption.word if scene.caption else ""
        return replace(scene, caption=Caption(other(rng, WORDS, self.word or "", old), self.row))

    def probes(self, before: Scene) -> tuple[Probe, ...]:
        def read(seen: Scene) -> str:
            return f"text {seen.caption.word}" if seen.caption else "no text"

        def right(seen: Scene) -> tuple[bool, str]:
            return (seen.caption.word if seen.caption else None) == self.word, read(seen)

        def old_gone(seen: Scene) -> tuple[bool, str]:
            old = before.caption.word if before.caption else None
            return seen.caption is None or seen.caption.word != old, read(seen)

        if self.word is None:
            return (follow("Is the text gone?", "no text", right),)
        probes = [follow(f'Does the text read "{self.word}"?', f"text {self.word}", right)]
        if before.caption is not None:
            probes.append(
                follow(f'Is the old text "{before.caption.word}" gone?', f"not {before.caption.word}", old_gone)
            )
        return tuple(probes)
