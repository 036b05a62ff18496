"""The scene graph: all that a sticker picture holds. Two equal scenes render to the same pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from editr1.stickers.kinds import CELLS, COLOR_HIDING_STYLES, COLORS, KINDS, MATERIALS

_FINISH_WORDS = {"gold": "golden", "wood": "wooden", "checker": "checkered", **{c: c for c in COLORS}}


@dataclass(frozen=True, slots=True)
class Sticker:
    """One sticker.

    Attributes:
        kind: a key of `KINDS`, or "face".
        cell: a key of `CELLS`.
        dx, dy: offset of its centre from the cell's, in pixels.
        size: side in pixels, outline not included.
        finish: "natural", a colour or a material.
        turned, mirrored: upside down; left and right exchanged.
        expression, glasses: of a face; None and False for all other kinds.
    """

    kind: str
    cell: str
    dx: int = 0
    dy: int = 0
    size: int = 26
    finish: str = "natural"
    turned: bool = False
    mirrored: bool = False
    expression: str | None = None
    glasses: bool = False

    def __post_init__(self) -> None:
        if self.cell not in CELLS or (self.kind not in KINDS and self.kind != "face"):
            raise ValueError(f"no such kind or cell: {self.kind!r}, {self.cell!r}")
        if (self.kind == "face") != (self.expression is not None):
            raise ValueError("a face, and nothing else, has an expression")

    @property
    def center(self) -> tuple[int, int]:
        """Centre in pixels, (x, y)."""
        column, row = CELLS[self.cell]
        return 16 + 32 * column + self.dx, 16 + 32 * row + self.dy

    def phrase(self, color: bool = True) -> str:
        """What it is called, e.g. "upside-down red apple", "smiling face with glasses"."""
        words = []
        if self.turned:
            words.append("upside-down")
        if self.mirrored:
            words.append("flipped")
        if self.finish != "natural" and (color or self.finish in MATERIALS):
            words.append(_FINISH_WORDS[self.finish])
        if self.expression is not None:
            words.append(self.expression)
        words.append(self.kind)
        if self.glasses:
            words.append("with glasses")
        return " ".join(words)

    def looks_like(self, other: Sticker) -> bool:
        """Whether both look the same, wherever they are."""
        return replace(other, cell=self.cell, dx=self.dx, dy=self.dy, size=self.size) == self


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What is behind the stickers: a kind, and a seed that draws the crop or the pattern."""

    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class Caption:
    """A word at the "top" or the "bottom"."""

    word: str
    row: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture: what is on it, then how it was filtered, then what went wrong with it.

    Attributes:
        stickers: of distinct kinds, in distinct cells.
        style, tone: global filters, or None.
        noise: standard deviation in grey levels of 0-255; blur: Gaussian radius in pixels; border: width of a white
            frame in pixels; saturation: factor, 1 is natural.
    """

    backdrop: Backdrop
    stickers: tuple[Sticker, ...]
    caption: Caption | None = None
    style: str | None = None
    tone: str | None = None
    noise: int = 0
    blur: float = 0.0
    border: int = 0
    saturation: float = 1.0

    @property
    def colors_show(self) -> bool:
        """Whether the style lets colours be seen."""
        return self.style not in COLOR_HIDING_STYLES

    @property
    def free_cells(self) -> list[str]:
        """Cells that hold neither a sticker nor a caption."""
        taken = {s.cell for s in self.stickers}
        return [c for c, (_, row) in CELLS.items() if c not in taken and not self._captioned(row)]

    def _captioned(self, row: int) -> bool:
        return self.caption is not None and row == (0 if self.caption.row == "top" else 2)

    def find(self, kind: str) -> Sticker | None:
        """The sticker of a kind, if there is one."""
        return next((s for s in self.stickers if s.kind == kind), None)

    def put(self, sticker: Sticker) -> Scene:
        """With a sticker added, in the place of the one of its kind if there was one."""
        others = tuple(s for s in self.stickers if s.kind != sticker.kind)
        return replace(self, stickers=in_reading_order((*others, sticker)))

    def drop(self, kind: str) -> Scene:
        """Without the sticker of a kind."""
        return replace(self, stickers=tuple(s for s in self.stickers if s.kind != kind))

    def change(self, kind: str, **changes: object) -> Scene:
        """With attributes of one sticker changed; the scene itself if there is no such sticker."""
        sticker = self.find(kind)
        return self if sticker is None else self.put(replace(sticker, **changes))  # type: ignore[arg-type]


def in_reading_order(stickers: tuple[Sticker, ...]) -> tuple[Sticker, ...]:
    """Row by row, from left to right."""
    return tuple(sorted(stickers, key=lambda s: (CELLS[s.cell][1], CELLS[s.cell][0], s.kind)))


def describe(scene: Scene) -> str:
    """A scene in words, for tasks of description and for traces.

    E.g. "on grass: star top left; upside-down red apple center. Text SALE. Sepia." What the style hides is left out.
    """
    items = "; ".join(f"{s.phrase(scene.colors_show)} {s.cell}" for s in scene.stickers) or "nothing"
    parts = [f"on {scene.backdrop.kind}: {items}."]
    parts.append(f"Text {scene.caption.word} {scene.caption.row}." if scene.caption else "No text.")
    parts.extend(f"{word.capitalize()}." for word in (scene.style, scene.tone) if word)
    parts.extend(f"{flaw.capitalize()}." for flaw in flaws(scene))
    return " ".join(parts)


def flaws(scene: Scene) -> list[str]:
    """Names of the technical flaws, in a fixed order."""
    names = []
    if scene.noise:
        names.append("noisy")
    if scene.blur:
        names.append("blurred")
    if scene.border:
        names.append("framed")
    if scene.saturation != 1.0:
        names.append("oversaturated")
    return names
