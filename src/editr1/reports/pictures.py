"""Pictures as a report carries them: scaled down, compressed, inside the file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace

from PIL import Image, ImageChops

from editr1.errors import ImageError
from editr1.images import difference_image, load_with_notes, match_size
from editr1.types import ImageLike

LOSSLESS_SIDE = 256
"""Pictures up to this side are PNG; larger ones are WebP, at a quality that hides its artefacts."""

ENLARGE_BELOW = 160
"""Pictures up to this side are shown with hard pixels, or enlarging would blur what is to be judged."""


VISIBLE_STEP = 8
"""A pixel counts as changed if one of its channels moved by at least this many of 255 levels."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture inside the report, or, where `uri` is empty, the reason why there is none.

    Attributes:
        role: "source", "edited" or "difference".
        uri: a `data:` address.
        width, height: in pixels, as embedded.
        note: the original's size if it was scaled down, how much differs for the difference picture, or why there is
            no picture.
    """

    role: str
    uri: str = ""
    width: int = 0
    height: int = 0
    note: str = ""

    @property
    def small(self) -> bool:
        """Whether it is to be enlarged with hard pixels."""
        return max(self.width, self.height) <= ENLARGE_BELOW


@dataclass(frozen=True, slots=True)
class PictureRow:
    """Source, edited and difference picture, and what was done to compare them."""

    shown: tuple[Shown, ...]
    notes: tuple[str, ...] = ()


def max_side_for(count: int) -> int:
    """How large, in pixels, the pictures of a report of `count` edits may be, so that the file stays loadable."""
    return 1024 if count <= 48 else 640 if count <= 250 else 384


def embed_thumbnail(role: str, ref: ImageLike | None, max_side: int) -> Shown:
    """Load one picture and embed it, lossless only where pixels show; a missing one is a note, not an error."""
    try:
        if ref is None:
            raise ImageError(f"no {role} picture is named")
        return _embed(role, load_with_notes(ref, role)[0], max_side, lossless=ENLARGE_BELOW)
    except ImageError as exc:
        return Shown(role, note=str(exc))


def picture_row(source: ImageLike | None, edited: ImageLike | None, max_side: int) -> PictureRow:
    """Load and embed both pictures, and draw their difference. A missing picture is a note, not an error."""
    loaded: dict[str, Image.Image] = {}
    shown: list[Shown] = []
    notes: list[str] = []
    for role, ref in (("source", source), ("edited", edited)):
        try:
            if ref is None:
                raise ImageError(f"no {role} picture is named")
            loaded[role], done = load_with_notes(ref, role)
        except ImageError as exc:
            shown.append(Shown(role, note=str(exc)))
        else:
            shown.append(_embed(role, loaded[role], max_side))
            notes.extend(done)
    difference = Shown("difference", note="it takes both pictures")
    if len(loaded) == 2:
        try:
            edit, resized = match_size(loaded["source"], loaded["edited"])
            notes.extend(resized)
            drawn = _embed("difference", difference_image(loaded["source"], edit), max_side)
            difference = replace(drawn, note=_changed(loaded["source"], edit))
        except ImageError as exc:
            difference = Shown("difference", note=str(exc))
    return PictureRow((*shown, difference), tuple(notes))


def _changed(before: Image.Image, after: Image.Image) -> str:
    """How much of the picture differs by more than compression alone would make it differ."""
    red, green, blue = ImageChops.difference(before, after).split()
    histogram = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()
    share = sum(histogram[VISIBLE_STEP:]) / sum(histogram)
    if not sum(histogram[1:]):
        return "no pixel differs"
    return f"{100 * share:.1f}\N{THIN SPACE}% of pixels differ visibly"


def _embed(role: str, image: Image.Image, max_side: int, lossless: int = LOSSLESS_SIDE) -> Shown:
    full = image.size
    small = image.convert("RGB")
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    small.info = {}  # no profiles or comments: they would be written into the file again
    data, kind = io.BytesIO(), "png" if max(small.size) <= lossless else "webp"
    if kind == "png":
        small.save(data, "PNG", optimize=True)
    else:
        small.save(data, "WEBP", quality=88, method=4)
    uri = f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
    note = "" if small.size == full else f"{full[0]} × {full[1]} px, shown smaller"
    return Shown(role, uri, *small.size, note)
