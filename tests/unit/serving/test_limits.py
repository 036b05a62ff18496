import io
import struct
import sys
import zlib

import pytest
from PIL import Image

import editr1.serving
from editr1.errors import ConfigError, ImageError, MissingExtraError
from editr1.serving import Limits
from editr1.serving.limits import RequestTooLargeError, check_total, picture_pixels

LIMITS = Limits(image_bytes=2000, image_pixels=1000, request_pixels=1500)


def file(size, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind)
    return buffer.getvalue()


def png_that_claims(width, height):
    """A PNG whose header names a size that its data does not have."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pixels_by_the_header(kind):
    assert picture_pixels(file((40, 25), kind), "source", LIMITS) == 1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file((41, 25)), "edited picture is 41x25, more than the limit of 0.001 megapixels"),
        (png_that_claims(12_000, 12_000), "12000x12000.*megapixels: scale it down"),  # Pillow would only warn
        (png_that_claims(200_000, 200_000), "megapixels: scale it down"),
        (b"\0" * 2001, r"more than the limit of 0\.0019"),
        (b"nonsense", "no readable PNG, JPEG, WEBP file"),
        (b"", "no readable"),
        (file((10, 10), "GIF"), "no readable"),  # Pillow could, and could run an interpreter on other formats
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no readable"),
    ],
    ids=["large", "very large", "bomb", "bytes", "nonsense", "empty", "gif", "postscript"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_refused_for_one_picture(data, message):
    with pytest.raises(ImageError, match=message):
        picture_pixels(data, "edited", LIMITS)


def test_the_pictures_of_a_request_together():
    check_total([1000, 500], LIMITS)
    with pytest.raises(RequestTooLargeError, match="0.0015"):
        check_total([1000, 501], LIMITS)


@pytest.mark.parametrize("option", [{"items": 257}, {"items": 0}, {"seconds": 0.0}, {"request_bytes": -1}])
def test_bad_limits(option):
    with pytest.raises(ConfigError):
        Limits(**option)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_extra_is_told_with_what_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"editr1 serve.*uv pip install 'editr1\[serve\]'"):
        _ = editr1.serving.create_app
