"""Grids of captioned images, for summaries, contact sheets and failed comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between tiles
LINE_PIXELS = 17  # height of one line of a caption
TITLE_PIXELS, TITLE_TILES = 44, 4  # height of a title, and the least width for it
BACKGROUND, INK, FAINT = "#ffffff", "#1a1a1a", "#6b6b6b"


def view_image(view: np.ndarray, side: int) -> Image.Image:
    """Return an image `float [S, S, 3]` in [-1, 1], enlarged to `side` pixels without smoothing."""
    pixels = np.clip(np.round((view + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def caption_pixels(num_lines: int) -> int:
    """Return the height of a caption of so many lines."""
    return 4 + LINE_PIXELS * num_lines


def captioned(image: Image.Image, caption: str) -> Image.Image:
    """Return the image with a caption below it; lines are cut to the width of the image."""
    lines = caption.split("\n")
    tile = Image.new("RGB", (image.width, image.height + caption_pixels(len(lines))), BACKGROUND)
    tile.paste(image, (0, 0))
    draw = ImageDraw.Draw(tile)
    for number, line in enumerate(lines):
        top = image.height + 2 + LINE_PIXELS * number
        write_line(draw, top, line, width=image.width, is_first=not number)
    return tile


def write_line(
    draw: ImageDraw.ImageDraw, top: int, text: str, *, width: int, is_first: bool = True
) -> None:
    """Write one line of text at the left edge, cut to `width` pixels."""
    font = ImageFont.load_default(13 if is_first else 11)
    text = " ".join(text.split())[:width]  # no letter is narrower than a pixel
    while text and draw.textlength(text, font) > width:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    draw.text((0, top), text, fill=INK if is_first else FAINT, font=font)


def grid(tiles: Sequence[Image.Image], columns: int, title: str | None = None) -> Image.Image:
    """Return tiles of one size in rows, in their order, below a title.

    Args:
        tiles: At least one image.
        columns: The most tiles in a row.
        title: One line above the tiles.
    """
    width, height = tiles[0].size
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    head = TITLE_PIXELS if title else GAP
    across = max(columns, TITLE_TILES) if title else columns
    size = (across * (width + GAP) + GAP, head + rows * (height + GAP) + (GAP if title else 0))
    canvas = Image.new("RGB", size, BACKGROUND)
    if title:
        font = ImageFont.load_default(17)
        ImageDraw.Draw(canvas).text((GAP, 12), title, fill=INK, font=font)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        canvas.paste(tile, (GAP + column * (width + GAP), head + row * (height + GAP)))
    return canvas
