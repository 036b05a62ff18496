import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from editr1.errors import ImageError
from editr1.images import difference_image, load_image, load_with_notes, prepare_pair


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixel(image, xy=(0, 0)):
    return image.getpixel(xy)


def solid(mode, color, size=(3, 2)):
    return Image.new(mode, size, color)


RED, WHITE = (255, 0, 0), (255, 255, 255)

MODES = [
    (solid("RGB", (10, 20, 30)), (10, 20, 30)),
    (solid("L", 77), (77, 77, 77)),
    (solid("1", 1), WHITE),
    (solid("LA", (40, 255)), (40, 40, 40)),
    (solid("LA", (40, 0)), WHITE),
    (solid("RGBA", (255, 0, 0, 255)), RED),
    (solid("RGBA", (255, 0, 0, 0)), WHITE),
    (solid("RGBa", (255, 0, 0, 255)), RED),
    (solid("La", (9, 255)), (9, 9, 9)),
    (solid("I;16", 65535), WHITE),
    (solid("I;16", 200 * 257), (200, 200, 200)),
    (solid("I;16B", 100 * 257), (100, 100, 100)),
    (solid("I", 200 * 257), (200, 200, 200)),
    (solid("I", 200), (200, 200, 200)),
    (solid("F", 0.5), (128, 128, 128)),
    (solid("F", 200.0), (200, 200, 200)),
    (solid("CMYK", (0, 255, 255, 0)), RED),
    (solid("YCbCr", (0, 128, 128)), (0, 0, 0)),
    (solid("RGB", RED).quantize(4), RED),
]


@pytest.mark.parametrize(("image", "expected"), MODES, ids=[f"{i.mode}-{i.getpixel((0, 0))}" for i, _ in MODES])
def test_every_mode_becomes_rgb(image, expected):
    rgb = load_image(image)
    assert (rgb.mode, rgb.size) == ("RGB", (3, 2))
    assert pixel(rgb) == pytest.approx(expected, abs=1)


def test_half_transparent_is_half_white():
    assert pixel(load_image(solid("RGBA", (0, 0, 0, 128)))) == pytest.approx((127, 127, 127), abs=1)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_transparent_color_of_a_png_becomes_white(mode):
    color = {"P": 0, "L": 5, "RGB": (1, 2, 3), "I;16": 5}[mode]
    image = Image.new(mode, (2, 1), color)
    if mode == "P":
        image.putpalette([1, 2, 3] * 256)
    data = encoded(image, transparency=color)
    assert pixel(load_image(data)) == WHITE


def test_caller_keeps_its_picture():
    image = solid("RGB", RED)
    load_image(image).putpixel((0, 0), WHITE)
    assert pixel(image) == RED


def test_sixteen_bit_png_file():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(2, 0)
    image, notes = load_with_notes(encoded(Image.fromarray(ramp)), "source")
    assert np.asarray(image)[0, :, 0] == pytest.approx(np.arange(256), abs=1)
    assert notes == ("source: 16-bit greys scaled to 8 bits",)


@pytest.mark.parametrize("value", [-1, 70_000])
def test_32_bit_out_of_range_is_an_error(value):
    with pytest.raises(ImageError, match="bring them to 16 bits"):
        load_image(solid("I", value))


@pytest.mark.parametrize("value", [-1.0, 256.0, float("nan"), float("inf")])
def test_float_picture_out_of_range_is_an_error(value):
    with pytest.raises(ImageError, match=r"bring them to \[0, 1\]"):
        load_image(solid("F", value))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
    upright = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40).convert("RGB")
    undo = {5: 5, 6: 8, 8: 6, 7: 7}.get(orientation, orientation)
    ops = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    stored = upright.transpose(Image.Transpose(ops[undo])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, notes = load_with_notes(encoded(stored, exif=exif), "source")
    assert np.array_equal(np.asarray(image), np.asarray(upright))
    assert notes == (("source: turned upright by EXIF",) if orientation > 1 else ())


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_animation_gives_its_first_frame(format):
    frames = [solid("RGB", c, (8, 8)) for c in (RED, (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    image, notes = load_with_notes(data)
    assert pixel(image) == RED
    assert "image: animation, frame 1 taken" in notes


ARRAYS = [
    (np.full((2, 3, 3), 9, np.uint8), 9),
    (np.full((2, 3), 9, np.uint8), 9),
    (np.full((2, 3, 1), 9, np.uint8), 9),
    (np.full((2, 3, 3), 0.5), 128),
    (np.full((2, 3, 3), 1.0 + 1e-5, np.float32), 255),
    (np.full((2, 3), 0.5, np.float16), 128),
    (np.full((2, 3, 3), 200 * 257, np.uint16), 200),
    (np.ones((2, 3), bool), 255),
    (np.zeros((2, 3, 4), np.uint8), 255),
    (np.asfortranarray(np.full((2, 3, 3), 9, np.uint8)), 9),
    (np.full((4, 6, 3), 9, np.uint8)[::2, ::2], 9),
]


@pytest.mark.parametrize(("array", "level"), ARRAYS, ids=lambda a: getattr(a, "dtype", a))
def test_arrays(array, level):
    image = load_image(array)
    assert image.size == (3, 2)
    assert pixel(image) == (level, level, level)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((8, 8, 7), np.uint8), "1 to 4 channels"),
        (np.zeros(8, np.uint8), "shape must be"),
        (np.zeros((1, 8, 8, 3), np.uint8), "shape must be"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.zeros((8, 8, 3), np.int64), "convert it to uint8"),
        (np.full((8, 8, 3), 255.0), r"must lie in \[0, 1\]"),
        (np.full((8, 8, 3), np.nan), r"must lie in \[0, 1\]"),
        (np.array([["a"]]), "convert it to uint8"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(ImageError, match=message):
        load_image(array)


def bomb(width, height):
    """A PNG whose header promises more than its data holds."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [12_000, 60_000])  # below and far above Pillow's own limits
def test_decompression_bomb_is_refused_before_decoding(tmp_path, side, monkeypatch):
    def no_decoding(self):
        raise AssertionError("decoded")

    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", no_decoding)
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=rf"bomb\.png is {side}x{side}, .* more than the limit of 100:"):
        load_image(tmp_path / "bomb.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_limit_can_be_set():
    image = solid("RGB", RED, (20, 20))
    for ref in (image, np.asarray(image), encoded(image)):
        assert load_image(ref, max_pixels=400).size == (20, 20)
        with pytest.raises(ImageError, match="20x20"):
            load_image(ref, max_pixels=399)
        assert load_image(ref, max_pixels=None).size == (20, 20)


def test_bad_files_are_named(tmp_path):
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    cases = {
        "missing.png": (None, "no such file"),
        "text.png": (b"hello", "no image format"),
        "empty.png": (b"", "empty"),
        "cut.jpg": (whole[: len(whole) // 2], "cannot be decoded: .*truncated"),
        "short.png": (bomb(64, 64), "cannot be decoded"),
    }
    for name, (data, message) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        for ref in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(ImageError, match=message) as error:
                load_image(ref)
            assert name in str(error.value)
            assert "\n" not in str(error.value)
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize("ref", ["a\0b.png", "x" * 5000, "https://example.org/a.png", "data:image/png;base64,AA"])
def test_strange_names(ref):
    with pytest.raises(ImageError) as error:
        load_image(ref)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("ref", [None, 3, ["a.png"], object()])
def test_strange_types(ref):
    with pytest.raises(ImageError, match="pass a path"):
        load_image(ref)


def test_zero_size_picture():
    with pytest.raises(ImageError, match="no pixels"):
        load_image(Image.new("RGB", (0, 5)))


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_load_or_raise_image_error(data):
    format = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
    whole = bytearray(encoded(Image.linear_gradient("L").resize((16, 16)).convert("RGB"), format))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(ImageError):
        assert load_image(bytes(whole[:cut])).mode == "RGB"


def test_pair_is_brought_to_the_sources_size():
    source, edited, notes = prepare_pair(solid("RGB", RED, (1024, 768)), solid("RGBA", (0, 0, 255, 255), (512, 512)))
    assert source.size == edited.size == (1024, 768)
    assert notes == (
        "edited: RGBA converted to RGB",
        "edited: resized 512x512 -> 1024x768",
        "aspect differs 1.00 vs 1.33",
    )


def test_pair_of_equal_size_has_no_notes():
    assert prepare_pair(solid("RGB", RED), solid("RGB", RED))[2] == ()


def test_same_aspect_is_not_noted():
    assert prepare_pair(solid("RGB", RED, (300, 200)), solid("RGB", RED, (151, 100)))[2] == (
        "edited: resized 151x100 -> 300x200",
    )


@settings(max_examples=100, deadline=None)
@given(*[st.integers(1, 260)] * 4)
def test_any_sizes(a, b, c, d):
    first, second = solid("RGB", RED, (a, b)), solid("L", 3, (c, d))
    if max(a, b) > 200 * min(a, b) or max(c, d) > 200 * min(c, d):
        with pytest.raises(ImageError, match="crop it"):
            prepare_pair(first, second)
    else:
        source, edited, _ = prepare_pair(first, second)
        assert source.size == edited.size == (a, b)


def test_extreme_aspect_loads_but_is_no_pair():
    strip = solid("RGB", RED, (1, 5000))
    assert load_image(strip).size == (1, 5000)
    with pytest.raises(ImageError, match="source picture is 1x5000"):
        prepare_pair(strip, strip)


def test_difference_image_is_red_where_it_changed_and_grey_elsewhere():
    source = solid("RGB", (10, 200, 90), (8, 4))
    edited = source.copy()
    edited.paste((200, 10, 90), (4, 0, 8, 4))
    difference = difference_image(source, edited)
    assert difference.size == (8, 4)
    assert len(set(pixel(difference, (0, 0)))) == 1
    assert pixel(difference, (7, 3)) == (214, 40, 57)
