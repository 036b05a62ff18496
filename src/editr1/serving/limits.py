"""What the scoring service takes: bytes, pixels, items, time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

from PIL import Image

from editr1.errors import ConfigError, Editr1Error, ImageError, MissingExtraError
from editr1.rewards.wire import IMAGE_FORMATS, MAX_ITEMS

MIB = 2**20


class RequestTooLargeError(Editr1Error, ValueError):
    """A request beyond a limit; HTTP 413."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on what one request may ask for, and on what waits.

    Attributes:
        request_bytes: of a request's body.
        image_bytes: of one picture's file.
        image_pixels: of one picture, width times height.
        request_pixels: of all pictures of a request together.
        items: edits in one request.
        waiting: edits that may wait to be judged; beyond it requests are turned away with 429.
        upload_seconds: for a request's body to arrive.
        seconds: that an edit may wait and be judged; then it has the status `timeout`. Shorter than what a client
            waits by default, so that what was finished of its request reaches it.

    Raises:
        ConfigError: if one is not positive, or `items` is more than the wire format allows.
    """

    request_bytes: int = 64 * MIB
    image_bytes: int = 16 * MIB
    image_pixels: int = 16_000_000
    request_pixels: int = 256_000_000
    items: int = MAX_ITEMS
    waiting: int = 2048
    upload_seconds: float = 60.0
    seconds: float = 270.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"the limit {field.name} is {getattr(self, field.name)}: give a positive number")
        if self.items > MAX_ITEMS:
            raise ConfigError(f"the limit items is {self.items}: the wire format allows {MAX_ITEMS} at most")


def picture_pixels(data: bytes, label: str, limits: Limits) -> int:
    """Width times height of a picture file by its header, without decoding it.

    Raises:
        ImageError: if it is no picture in a format that the service reads, or larger than the limits for one.
    """
    if len(data) > limits.image_bytes:
        raise ImageError(
            f"the {label} picture has {len(data) / MIB:.1f} MiB, more than the limit of {limits.image_bytes / MIB:g}: "
            f"send it smaller"
        )
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            width, height = image.size
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):  # Pillow's own limit, above any sound one
        raise ImageError(
            f"the {label} picture has more than the limit of {limits.image_pixels / 1e6:g} megapixels: scale it down"
        ) from None
    except Exception:  # a decoder may raise nearly anything on a damaged header
        raise ImageError(f"the {label} picture is no readable {', '.join(IMAGE_FORMATS)} file") from None
    if width * height > limits.image_pixels:
        raise ImageError(
            f"the {label} picture is {width}x{height}, more than the limit of {limits.image_pixels / 1e6:g} "
            f"megapixels: scale it down"
        )
    return width * height


def check_total(pixels: Sequence[int], limits: Limits) -> None:
    """Refuse a request whose pictures are too large together.

    Raises:
        RequestTooLargeError: if they are.
    """
    if sum(pixels) > limits.request_pixels:
        raise RequestTooLargeError(
            f"the pictures of the request have {sum(pixels) / 1e6:.1f} megapixels together, more than the limit of "
            f"{limits.request_pixels / 1e6:g}: send fewer at a time"
        )


def require_extra() -> None:
    """Check that what the service stands on is installed.

    Raises:
        MissingExtraError: if it is not.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("the scoring service (editr1 serve)", "serve") from exc
