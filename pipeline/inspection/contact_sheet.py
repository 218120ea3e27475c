"""Contact sheets: some images of a records folder, with their boxes and classes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from preprocessing.records import schema
from training.monitoring.image_grid import (
    BACKGROUND,
    caption_pixels,
    captioned,
    grid,
    write_line,
)

TILE, COLUMNS = 176, 8  # pixels, images in a row
CAPTION = caption_pixels(2)
BOX_COLOR = "#ff3b30"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a contact sheet, given by the features of its record."""

    features: dict[str, list[Any]]

    def tile(self) -> Image.Image:
        """Return the image with its boxes, as large as fits into a square, and two lines below."""
        square = Image.new("RGB", (TILE, TILE), BACKGROUND)
        draw = ImageDraw.Draw(square)
        image = self._image()
        size = image.size
        left, top = (TILE - size[0]) // 2, (TILE - size[1]) // 2
        square.paste(image, (left, top))
        names = (schema.BBOX_XMIN, schema.BBOX_YMIN, schema.BBOX_XMAX, schema.BBOX_YMAX)
        for x0, y0, x1, y1 in zip(*(self.features[name] for name in names), strict=True):
            if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1):
                continue
            corners = (
                left + x0 * (size[0] - 1),
                top + y0 * (size[1] - 1),
                left + x1 * (size[0] - 1),
                top + y1 * (size[1] - 1),
            )
            draw.rectangle(corners, outline=BOX_COLOR, width=2)
        text = " ".join(self.features[schema.TEXT][0].decode(errors="replace").split())
        label, height, width = (
            self.features[name][0] for name in (schema.LABEL, schema.HEIGHT, schema.WIDTH)
        )
        return captioned(square, f"{label} {text}\n{width} x {height}")

    def _image(self) -> Image.Image:
        """Return the image, its longer side that of a tile; a damaged one is gray and says so."""
        try:
            with Image.open(io.BytesIO(self.features[schema.ENCODED][0])) as encoded:
                encoded.draft("RGB", (2 * TILE, 2 * TILE))
                scale = TILE / max(encoded.size)
                size = (max(1, round(encoded.width * scale)), max(1, round(encoded.height * scale)))
                return encoded.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        except Exception:  # Pillow's parsers raise errors of any type
            damaged = Image.new("RGB", (TILE, TILE), "#d9d9d9")
            write_line(ImageDraw.Draw(damaged), TILE // 2, " cannot be decoded", width=TILE)
            return damaged


def contact_sheet(pictures: list[Picture], title: str) -> bytes:
    """Return a PNG of the pictures in rows of eight, in their order."""
    packed = io.BytesIO()
    sheet = grid([picture.tile() for picture in pictures], COLUMNS, title)
    sheet.save(packed, "PNG", optimize=True)
    return packed.getvalue()
