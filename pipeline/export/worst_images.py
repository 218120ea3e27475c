"""A picture of the validation images on which a format is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

TILE = 224  # pixels
_CAPTION = 46
_COLUMNS = 4


def draw(path: str, images: Sequence[np.ndarray], captions: Sequence[str]) -> None:
    """Write a PNG of captioned tiles.

    Args:
        path: The PNG to write.
        images: `float32 [S, S, 3]` in [-1, 1], as the network saw them.
        captions: One caption per image, of up to three lines.
    """
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + _CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = number % columns * TILE, number // columns * (TILE + _CAPTION)
        pixels = np.clip(np.round((image + 1.0) * 127.5), 0, 255).astype(np.uint8)
        tile = Image.fromarray(pixels).resize((TILE - 4, TILE - 4), Image.Resampling.NEAREST)
        sheet.paste(tile, (x + 2, y + 2))
        pen.multiline_text((x + 4, y + TILE), caption, fill="black", spacing=1)
    sheet.save(path)
