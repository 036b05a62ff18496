"""Drawing: a scene in, 96x96 RGB pixels out. Deterministic, about a third of a millisecond a picture."""

from __future__ import annotations

import zlib
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

from editr1.stickers.font import word_mask
from editr1.stickers.kinds import COLORS, FACES, KINDS, PHOTO_BACKDROPS, SIDE
from editr1.stickers.scene import Backdrop, Caption, Scene, Sticker

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_SPRITE = 48
_OUTLINE = 2
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene, RGB, SIDE x SIDE."""
    return Image.fromarray(pixels(scene))


def pixels(scene: Scene) -> Pixels:
    """The pixels of a scene, (SIDE, SIDE, 3) uint8."""
    canvas = backdrop_pixels(scene.backdrop).astype(np.float32)
    for sticker in scene.stickers:
        _paste(canvas, sticker_rgba(sticker), sticker.center)
    if scene.caption is not None:
        _write(canvas, scene.caption)
    if scene.style is not None:
        canvas = _stylize(canvas, scene.style)
    if scene.tone is not None:
        canvas = _tone(canvas, scene.tone)
    return _spoil(canvas, scene)


def sticker_mask(sticker: Sticker) -> npt.NDArray[np.bool_]:
    """The pixels that a sticker covers however thinly, outline included, (SIDE, SIDE) bool."""
    canvas = np.zeros((SIDE, SIDE, 3), np.float32)
    rgba = sticker_rgba(sticker).copy()
    rgba[..., :3] = 255
    _paste(canvas, rgba, sticker.center)
    return canvas[..., 0] > 0


def caption_mask(caption: Caption) -> npt.NDArray[np.bool_]:
    """The pixels that a caption covers, outline included, (SIDE, SIDE) bool."""
    canvas = np.full((SIDE, SIDE, 3), -1, np.float32)
    _write(canvas, caption)
    return canvas[..., 0] >= 0


@cache
def _asset(name: str) -> Image.Image:
    data = files("editr1.stickers").joinpath("assets", name).read_bytes()
    return Image.open(BytesIO(data)).copy()


@cache
def _sprite(index: int) -> Image.Image:
    return _asset("stickers.png").crop((index * _SPRITE, 0, (index + 1) * _SPRITE, _SPRITE))


@cache
def _glyph(kind: str, finish: str, expression: str | None, glasses: bool) -> Image.Image:
    """A sticker's sprite, painted, before it is sized and turned."""
    if expression is None:
        return _paint(_sprite(list(KINDS).index(kind)), finish)
    faces = list(FACES)
    sprite = _sprite(len(KINDS) + faces.index(expression)).copy()
    if glasses:
        lenses = _sprite(len(KINDS) + faces.index("glasses")).resize((44, 44), Image.Resampling.LANCZOS)
        dark = Image.merge("RGBA", (*(b.point(lambda v: v // 3) for b in lenses.split()[:3]), lenses.split()[3]))
        sprite.alpha_composite(dark, (2, 0))
    return sprite


def _paint(sprite: Image.Image, finish: str) -> Image.Image:
    """Repaint a sprite in a colour or a material, keeping its shading."""
    if finish == "natural":
        return sprite
    rgba = np.asarray(sprite).astype(np.float32)
    shade = (rgba[..., :3] @ _LUMA) / 255
    shade = 0.45 + 0.75 * shade
    y, x = np.mgrid[0:_SPRITE, 0:_SPRITE].astype(np.float32)
    if finish in COLORS:
        base = np.broadcast_to(np.array(COLORS[finish], np.float32), (_SPRITE, _SPRITE, 3))
    elif finish == "gold":
        band = 0.5 + 0.5 * np.sin((x + y) / 3.2)
        base = (1 - band)[..., None] * np.array([120, 70, 0], np.float32) + band[..., None] * np.array(
            [255, 225, 90], np.float32
        )
        shade = 0.8 + 0.2 * shade
    elif finish == "wood":
        grain = 0.5 + 0.5 * np.sin(y / 1.6 + 1.5 * np.sin(x / 9))
        base = (1 - grain)[..., None] * np.array([92, 52, 22], np.float32) + grain[..., None] * np.array(
            [176, 116, 62], np.float32
        )
        shade = 0.75 + 0.25 * shade
    else:  # checker
        odd = ((x // 8 + y // 8) % 2)[..., None]
        base = 25 + 225 * odd * np.ones(3, np.float32)
        shade = 0.85 + 0.15 * shade
    rgba[..., :3] = np.clip(base * shade[..., None], 0, 255)
    return Image.fromarray(rgba.astype(np.uint8))


@lru_cache(maxsize=8192)
def _sized(
    kind: str, finish: str, expression: str | None, glasses: bool, size: int, turned: bool, mirrored: bool
) -> Floats:
    sprite = _glyph(kind, finish, expression, glasses)
    if turned:
        sprite = sprite.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if mirrored:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    small = sprite.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=None)
    framed = Image.new("RGBA", (size + 2 * _OUTLINE,) * 2)
    framed.paste(small, (_OUTLINE, _OUTLINE))
    halo = framed.getchannel("A").filter(ImageFilter.MaxFilter(2 * _OUTLINE + 1))
    cut = Image.new("RGBA", framed.size, (255, 255, 255, 0))
    cut.putalpha(halo)
    cut.alpha_composite(framed)
    rgba = np.asarray(cut).astype(np.float32)
    rgba.setflags(write=False)
    return rgba


def sticker_rgba(sticker: Sticker) -> Floats:
    """A sticker with its white die-cut outline, (size + 4, size + 4, 4) float32 in 0-255; read-only."""
    s = sticker
    return _sized(s.kind, s.finish, s.expression, s.glasses, s.size, s.turned, s.mirrored)


def _paste(canvas: Floats, rgba: Floats, center: tuple[int, int]) -> None:
    side = rgba.shape[0]
    x0, y0 = center[0] - side // 2, center[1] - side // 2
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x0 + side, SIDE), min(y0 + side, SIDE)
    part = rgba[top - y0 : bottom - y0, left - x0 : right - x0]
    alpha = part[..., 3:] / 255
    window = canvas[top:bottom, left:right]
    window += alpha * (part[..., :3] - window)


@cache
def _photo(kind: str) -> Image.Image:
    return _asset(f"{kind.replace(' ', '-')}.jpg").convert("RGB")


@lru_cache(maxsize=512)
def backdrop_pixels(backdrop: Backdrop) -> Pixels:
    """The backdrop alone, (SIDE, SIDE, 3) uint8; read-only."""
    rng = Random(f"backdrop/{backdrop.kind}/{backdrop.seed}")
    if backdrop.kind in PHOTO_BACKDROPS:
        photo = _photo(backdrop.kind)
        low = 0.75 if backdrop.kind in ("palace", "petals", "coffee table", "cat fur") else 0.45
        side = rng.uniform(low, 1.0) * photo.width
        x, y = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
        crop = photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side), reducing_gap=None)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        out = np.asarray(crop)
    else:
        out = np.clip(_PAINTED[backdrop.kind](rng), 0, 255).astype(np.uint8)
    out = np.ascontiguousarray(out)
    out.setflags(write=False)
    return out


def _grid() -> tuple[Floats, Floats]:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    return x, y


def _mix(share: Floats, first: tuple[int, ...], second: tuple[int, ...]) -> Floats:
    share = np.clip(share, 0, 1)[..., None]
    return ((1 - share) * np.array(first, np.float32) + share * np.array(second, np.float32)).astype(np.float32)


def _sunset(rng: Random) -> Floats:
    x, y = _grid()
    height = (y / SIDE * rng.uniform(0.9, 1.3)).astype(np.float32)
    sky = _mix(height, (70 + rng.randint(0, 40), 40, 120), (255, 150 + rng.randint(0, 50), 60))
    disc = np.hypot(x - rng.uniform(15, 80), y - rng.uniform(60, 85)) < rng.uniform(8, 14)
    sky[disc] = (255, 235, 150)
    return sky


def _sea(rng: Random) -> Floats:
    x, y = _grid()
    horizon = rng.uniform(22, 40)
    sky = _mix(y / horizon, (150, 205, 245), (225, 240, 250))
    phase = rng.uniform(0, 6)
    waves = 0.5 + 0.5 * np.sin(y * rng.uniform(0.5, 0.8) + 1.5 * np.sin(x / rng.uniform(6, 11) + phase))
    water = _mix(waves, (20, 90, 150), (50, 150, 190))
    return np.where((y < horizon)[..., None], sky, water)


_PASTELS = ((250, 235, 200), (205, 232, 250), (250, 210, 220), (214, 240, 210), (226, 214, 245), (245, 245, 240))
_DEEPS = ((230, 120, 90), (90, 150, 200), (200, 110, 160), (120, 170, 110), (130, 110, 180), (150, 150, 150))


def _dots(rng: Random) -> Floats:
    x, y = _grid()
    step, radius = rng.choice((12, 14, 16)), rng.uniform(3, 4.5)
    ox, oy = rng.uniform(0, step), rng.uniform(0, step)
    inside = np.hypot((x + ox) % step - step / 2, (y + oy) % step - step / 2) < radius
    return _mix(inside.astype(np.float32), rng.choice(_PASTELS), rng.choice(_DEEPS))


def _stripes(rng: Random) -> Floats:
    x, y = _grid()
    width = rng.choice((6, 8, 10))
    lean = rng.choice((-1, 1))
    odd = ((x + lean * y + rng.uniform(0, 20)) // width) % 2
    return _mix(odd.astype(np.float32), rng.choice(_PASTELS), rng.choice(_DEEPS))


_PAINTED = {"sunset": _sunset, "sea": _sea, "dots": _dots, "stripes": _stripes}


def _write(canvas: Floats, caption: Caption) -> None:
    ink, outline = word_mask(caption.word)
    height, width = ink.shape
    x0 = (SIDE - width) // 2
    y0 = 4 if caption.row == "top" else SIDE - height - 4
    window = canvas[y0 : y0 + height, x0 : x0 + width]
    window[outline] = (20, 20, 40)
    window[ink] = (255, 255, 255)


def _stylize(canvas: Floats, style: str) -> Floats:
    grey = canvas @ _LUMA
    if style == "greyscale":
        return np.repeat(grey[..., None], 3, axis=2)
    if style == "sepia":
        return grey[..., None] * np.array([1.08, 0.86, 0.62], np.float32) + np.array([16, 8, 0], np.float32)
    if style == "pixel":
        block = canvas.reshape(SIDE // 4, 4, SIDE // 4, 4, 3).mean(axis=(1, 3))
        return block.repeat(4, axis=0).repeat(4, axis=1).astype(np.float32)
    gy, gx = np.gradient(grey)
    lines = np.clip(255 - 3.2 * np.hypot(gx, gy), 0, 255)
    return np.repeat(lines[..., None], 3, axis=2).astype(np.float32)


_TONES = {
    "brighter": (np.array([0.75, 0.75, 0.75], np.float32), 75.0),
    "darker": (np.array([0.5, 0.5, 0.5], np.float32), 0.0),
    "warmer": (np.array([1.12, 0.95, 0.6], np.float32), 8.0),
    "cooler": (np.array([0.62, 0.92, 1.12], np.float32), 8.0),
}


def _tone(canvas: Floats, tone: str) -> Floats:
    gain, lift = _TONES[tone]
    return canvas * gain + lift


def _spoil(canvas: Floats, scene: Scene) -> Pixels:
    out = np.clip(canvas, 0, 255)
    if scene.saturation != 1.0 or scene.blur:
        picture = Image.fromarray(out.astype(np.uint8))
        if scene.saturation != 1.0:
            picture = ImageEnhance.Color(picture).enhance(scene.saturation)
        if scene.blur:
            picture = picture.filter(ImageFilter.GaussianBlur(scene.blur))
        out = np.asarray(picture).astype(np.float32)
    if scene.noise:
        rng = np.random.default_rng(zlib.crc32(repr(scene).encode()))
        out = np.clip(out + rng.normal(0, scene.noise, out.shape), 0, 255)
    result = out.astype(np.uint8)
    if scene.border:
        b = scene.border
        framed = np.full_like(result, 255)
        framed[b:-b, b:-b] = result[b:-b, b:-b]
        result = framed
    return result
