"""Make `src/editr1/stickers/assets/` from openly licensed sources. Needed only to change the assets.

    python scripts/make_sticker_assets.py --font NotoColorEmoji.ttf --skimage DIR --sklearn DIR

`--font` is Debian's fonts-noto-color-emoji; `--skimage` the folder `skimage/data` of scikit-image's wheel,
`--sklearn` the folder `sklearn/datasets/images` of scikit-learn's. What comes from where, and under which licence,
is in the assets' LICENSES.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from editr1.stickers.kinds import FACES, KINDS

ASSETS = Path(__file__).parent.parent / "src/editr1/stickers/assets"
SPRITE = 48
PHOTOS = {
    # name: (file, crop box as shares of width and height, side of the result)
    "grass": ("skimage:grass.png", (0, 0, 1, 1), 256),
    "bricks": ("skimage:brick.png", (0, 0, 1, 1), 256),
    "gravel": ("skimage:gravel.png", (0, 0, 1, 1), 256),
    "galaxy": ("skimage:hubble_deep_field.jpg", (0, 0, 0.6, 0.7), 288),
    "cat fur": ("skimage:chelsea.png", (0.05, 0.3, 0.75, 1), 200),
    "coffee table": ("skimage:coffee.png", (0.1, 0, 0.76, 1), 176),
    "palace": ("sklearn:china.jpg", (0.1, 0.08, 0.76, 0.95), 200),
    "petals": ("sklearn:flower.jpg", (0.25, 0.1, 0.85, 0.95), 200),
}
TINT = {"grass": (0.62, 1.05, 0.42), "bricks": (1.15, 0.62, 0.5)}  # photographs that ship in grey


def emoji(font: ImageFont.FreeTypeFont, char: str) -> Image.Image:
    """One glyph, cropped to its ink, centred in a square of SPRITE pixels."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((8, 8), char, font=font, embedded_color=True)
    glyph = canvas.crop(canvas.getbbox())
    glyph.thumbnail((SPRITE, SPRITE), Image.Resampling.LANCZOS)
    tile = Image.new("RGBA", (SPRITE, SPRITE))
    tile.paste(glyph, ((SPRITE - glyph.width) // 2, (SPRITE - glyph.height) // 2))
    return tile


def make_sheet(font_path: Path) -> None:
    """All stickers side by side, in the order of KINDS and then FACES."""
    font = ImageFont.truetype(str(font_path), 109)
    chars = [k.emoji for k in KINDS.values()] + list(FACES.values())
    sheet = Image.new("RGBA", (SPRITE * len(chars), SPRITE))
    for i, char in enumerate(chars):
        sheet.paste(emoji(font, char), (i * SPRITE, 0))
    sheet.save(ASSETS / "stickers.png", optimize=True)


def make_photos(folders: dict[str, Path]) -> None:
    """Square photographs, from which backdrops are cropped."""
    for name, (source, box, side) in PHOTOS.items():
        where, file = source.split(":")
        photo = Image.open(folders[where] / file).convert("RGB")
        x0, y0, x1, y1 = (round(b * s) for b, s in zip(box, (photo.width, photo.height) * 2))
        edge = min(x1 - x0, y1 - y0)
        photo = photo.crop((x0, y0, x0 + edge, y0 + edge)).resize((side, side), Image.Resampling.LANCZOS)
        if name in TINT:
            bands = [b.point([min(255, round(v * f)) for v in range(256)]) for b, f in zip(photo.split(), TINT[name])]
            photo = Image.merge("RGB", bands)
        photo.save(ASSETS / f"{name.replace(' ', '-')}.jpg", quality=88)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", type=Path, required=True)
    parser.add_argument("--skimage", type=Path, required=True)
    parser.add_argument("--sklearn", type=Path, required=True)
    args = parser.parse_args()
    ASSETS.mkdir(parents=True, exist_ok=True)
    make_sheet(args.font)
    make_photos({"skimage": args.skimage, "sklearn": args.sklearn})


if __name__ == "__main__":
    main()
