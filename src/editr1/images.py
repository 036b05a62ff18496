"""Pictures in: anything that names or holds one becomes an upright 8-bit RGB picture, or an `ImageError`.

Nothing here guesses silently: what was done to a picture on its way (composited, scaled from 16 bits, rotated,
resized) is returned as notes, which end up in a verdict's `preprocessing`.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from editr1.errors import ImageError
from editr1.types import ImageLike

MAX_PIXELS = 100_000_000
"""Default limit on width times height, checked before anything is decoded."""

MAX_ASPECT = 200
"""Sides may differ by this factor in a pair to judge: beyond it, vision-language models have no patches to see."""

_Notes = tuple[str, ...]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn a picture upright, by its EXIF orientation."""


def load_image(ref: ImageLike, *, max_pixels: int | None = MAX_PIXELS) -> Image.Image:
    """Load a picture as upright RGB.

    Transparency is composited on white. 16-bit greys are scaled to 8 bits. Of an animation the first frame is
    taken. The picture returned never shares pixels with what was passed in.

    Args:
        ref: a path, the bytes of a file, a PIL picture, or an array (H, W), (H, W, 1 to 4) of uint8, bool, uint16
            or of floats in [0, 1]. Channels go last.
        max_pixels: limit on width times height; None for no limit.

    Raises:
        ImageError: if the picture is missing, unreadable, truncated, empty, or larger than the limit; the message
            names the file.
    """
    return load_with_notes(ref, max_pixels=max_pixels)[0]


def load_with_notes(
    ref: ImageLike, label: str = "image", *, max_pixels: int | None = MAX_PIXELS
) -> tuple[Image.Image, _Notes]:
    """`load_image`, and what was done, each note beginning with the label, e.g. "edited: RGBA on white"."""
    if isinstance(ref, np.ndarray):
        image, notes = _from_array(ref, max_pixels)
    elif isinstance(ref, Image.Image):
        image, notes = _decode(ref, f"picture {_size(ref)}", max_pixels)
    elif isinstance(ref, bytes | bytearray | memoryview):
        image, notes = _from_file(io.BytesIO(ref), f"image of {len(ref)} bytes", max_pixels)
    elif isinstance(ref, str | Path):
        image, notes = _from_path(ref, max_pixels)
    else:
        raise ImageError(
            f"cannot read a picture from {type(ref).__name__}: pass a path, bytes, a PIL picture or an array"
        )
    return image, tuple(f"{label}: {note}" for note in notes)


def match_size(source: Image.Image, edited: Image.Image) -> tuple[Image.Image, _Notes]:
    """Bring the edited picture to the source's size (Lanczos), with notes on what that took.

    Raises:
        ImageError: if a picture is more than `MAX_ASPECT` times as long as wide, or the other way round.
    """
    for label, image in (("source", source), ("edited", edited)):
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise ImageError(
                f"{label} picture is {_size(image)}: its sides differ by more than a factor of {MAX_ASPECT}, crop it"
            )
    if edited.size == source.size:
        return edited, ()
    notes = [f"edited: resized {_size(edited)} -> {_size(source)}"]
    ours, theirs = (image.width / image.height for image in (edited, source))
    if abs(ours / theirs - 1) > 0.01:
        notes.append(f"aspect differs {ours:.2f} vs {theirs:.2f}")
    return edited.resize(source.size, Image.Resampling.LANCZOS), tuple(notes)


def prepare_pair(
    source: ImageLike, edited: ImageLike, *, max_pixels: int | None = MAX_PIXELS
) -> tuple[Image.Image, Image.Image, _Notes]:
    """Load both pictures of an edit for comparison: upright, RGB, both of the source's size.

    Returns:
        source, edited, and notes on what was done to them, in order.

    Raises:
        ImageError: if either cannot be loaded or is too long and thin to be judged.
    """
    before, source_notes = load_with_notes(source, "source", max_pixels=max_pixels)
    after, edited_notes = load_with_notes(edited, "edited", max_pixels=max_pixels)
    after, size_notes = match_size(before, after)
    return before, after, source_notes + edited_notes + size_notes


def difference_image(source: ImageLike, edited: ImageLike, *, full_scale: int = 64) -> Image.Image:
    """Where the two pictures differ: the source, pale and grey, with changes laid over it in red.

    Args:
        source: the picture before.
        edited: the picture after; it is brought to the source's size.
        full_scale: difference, in levels of 255, of the channel that changed most, at which red is opaque.
    """
    before, after, _ = prepare_pair(source, edited)
    a, b = (np.asarray(image, dtype=np.int16) for image in (before, after))
    weight = np.minimum(np.abs(a - b).max(axis=2), full_scale).astype(np.float32)[..., None] / full_scale
    pale = 140 + np.asarray(before.convert("L"), dtype=np.float32)[..., None] * (115 / 255)
    red = np.array([214, 40, 57], dtype=np.float32)
    return Image.fromarray(np.round(pale * (1 - weight) + red * weight).astype(np.uint8))


def _from_path(ref: str | Path, max_pixels: int | None) -> tuple[Image.Image, list[str]]:
    text = str(ref)
    name = text if len(text) <= 300 else f"{text[:120]}… ({len(text)} characters)"
    if text.startswith(("http://", "https://", "data:")):
        raise ImageError(f"{name} is a URL: download the picture and pass its path or bytes")
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            raise ImageError(f"{name} is a folder, not a picture")
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"no such file: {name}") from None
    except ImageError:
        raise
    except (OSError, ValueError, RuntimeError) as exc:  # no permission; NUL in the name; no home folder
        raise ImageError(f"cannot read {name}: {_reason(exc)}") from None
    with file:
        return _from_file(file, name, max_pixels)


def _from_file(file: BinaryIO, name: str, max_pixels: int | None) -> tuple[Image.Image, list[str]]:
    try:
        with _without_pillows_limit():
            image = Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        what = "in no image format that Pillow reads" if file.read(1) else "empty (0 bytes)"
        raise ImageError(f"{name} is {what}") from None
    except Exception as exc:  # a decoder may raise nearly anything on a damaged header
        raise ImageError(f"{name} is not a readable picture: {_reason(exc)}") from None
    with image:
        return _decode(image, name, max_pixels)


_pillow_lock = threading.Lock()


@contextlib.contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's own, global limit while a header is read: ours follows, is per call, and names the size."""
    with _pillow_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(image: Image.Image, name: str, max_pixels: int | None) -> tuple[Image.Image, list[str]]:
    """From an opened picture of any mode to an upright RGB copy."""
    _check_size(image.size, name, max_pixels)
    notes = []
    try:
        if getattr(image, "is_animated", False):
            notes.append(f"animation, frame {image.tell() + 1} taken")
        image.load()
        orientation = _orientation(image)
        rgb, note = _to_rgb(image, name)
    except ImageError:
        raise
    except Exception as exc:  # a decoder may raise nearly anything on damaged data
        raise ImageError(f"{name} cannot be decoded: {_reason(exc)}") from None
    if note:
        notes.append(note)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
        notes.append("turned upright by EXIF")
    return rgb, notes


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation, 1 to 8; None where there is none that can be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged metadata is no reason to refuse a picture
        return None


def _to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, str | None]:
    """An RGB copy, and a note unless it is the same picture."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        grey, note = _grey_levels(image, name)
        return Image.fromarray(grey).convert("RGB"), note
    if image.has_transparency_data:
        straight = {"La": "LA", "RGBa": "RGBA"}.get(mode)  # premultiplied: Pillow converts these to nothing else
        rgba = (image.convert(straight) if straight else image).convert("RGBA")
        if rgba.getchannel("A").getextrema() == (255, 255):
            return rgba.convert("RGB"), f"{mode} converted to RGB"
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB"), f"{mode} composited on white"
    if mode == "RGB":
        return image.copy(), None
    return image.convert("RGB"), f"{'palette' if mode == 'P' else mode} converted to RGB"


def _grey_levels(image: Image.Image, name: str) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str]:
    """8-bit greys of a picture with 16- or 32-bit ones.

    `I;16` is 16-bit by definition. Pillow's `I` and `F` leave the range open: it is read off the data, and anything
    that fits no usual range is an error.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 255):  # written so that NaN fails
            raise ImageError(f"{name} holds floats from {low:g} to {high:g}: bring them to [0, 1]")
        scale, note = (255.0, "floats in 0-1") if high <= 1 else (1.0, "floats in 0-255")
    elif image.mode == "I" and not (low >= 0 and high <= 65535):
        raise ImageError(f"{name} holds 32-bit greys from {low} to {high}: bring them to 16 bits")
    elif image.mode == "I" and high <= 255:
        scale, note = 1.0, "8-bit greys in 32 bits"
    else:
        scale, note = 1 / 257, "16-bit greys"
    grey = np.round(values * scale).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey, f"{note} scaled to 8 bits"


def _from_array(array: np.ndarray[Any, Any], max_pixels: int | None) -> tuple[Image.Image, list[str]]:
    name = f"array {array.dtype}{list(array.shape)}"
    if array.ndim not in (2, 3):
        raise ImageError(f"{name} is no picture: its shape must be (height, width) or (height, width, channels)")
    if array.ndim == 3 and not 1 <= array.shape[2] <= 4:
        hint = ", move channels last with array.transpose(1, 2, 0)" if 1 <= array.shape[0] <= 4 else ""
        raise ImageError(f"{name} is no picture: the last axis must hold 1 to 4 channels{hint}")
    _check_size((array.shape[1], array.shape[0]), name, max_pixels)
    levels, note = _levels(array, name)
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[..., 0]
    rgb, mode_note = _to_rgb(Image.fromarray(np.ascontiguousarray(levels)), name)
    return rgb, [n for n in (note, mode_note) if n]


def _levels(array: np.ndarray[Any, Any], name: str) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str | None]:
    """An array of any accepted type as uint8 levels, and a note unless it was that already."""
    if array.dtype == np.uint8:
        return array, None
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255), "bool scaled to 8 bits"
    if array.dtype == np.uint16:
        return np.round(array / 257).astype(np.uint8), "16-bit levels scaled to 8 bits"
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{name} has no known range: convert it to uint8, or to floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # rounding of an affine map is forgiven, NaN is not
        raise ImageError(f"{name} holds values from {low:g} to {high:g}: floats must lie in [0, 1]")
    return np.round(np.clip(array.astype(np.float32), 0, 1) * 255).astype(np.uint8), "floats scaled to 8 bits"


def _check_size(size: tuple[int, int], name: str, max_pixels: int | None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width}x{height})")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            f"{name} is {width}x{height}, {width * height / 1e6:.1f} megapixels, more than the limit of "
            f"{max_pixels / 1e6:g}: scale it down, or raise max_pixels if you trust it"
        )


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def _reason(exc: BaseException) -> str:
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return " ".join(text.split())[:200]
