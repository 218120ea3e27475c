"""What a records folder looks like: counts and sizes as a plot, some images as a sheet."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from preprocessing.records import schema
from preprocessing.records.schema import BINS_PER_OCTAVE, SPLITS, Manifest

TILE, CAPTION, GAP, COLUMNS = 176, 38, 8, 8  # pixels, pixels, pixels, images a row
BACKGROUND, INK, FAINT, BOX_COLOR = "#ffffff", "#1a1a1a", "#6b6b6b", "#ff3b30"
MAX_NAMED_CLASSES = 40  # more are drawn as a curve


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a contact sheet: the features of its record."""

    features: dict[str, list[Any]]

    def tile(self) -> Image.Image:
        """The image with its boxes, as large as fits into a square, and two lines below."""
        tile = Image.new("RGB", (TILE, TILE + CAPTION), BACKGROUND)
        draw = ImageDraw.Draw(tile)
        image = self._image()
        size = image.size
        left, top = (TILE - size[0]) // 2, (TILE - size[1]) // 2
        tile.paste(image, (left, top))
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
        text = self.features[schema.TEXT][0].decode(errors="replace")
        label, height, width = (
            self.features[name][0] for name in (schema.LABEL, schema.HEIGHT, schema.WIDTH)
        )
        _line(draw, TILE + 2, f"{label} {text}", 13, INK)
        _line(draw, TILE + 19, f"{width} x {height}", 11, FAINT)
        return tile

    def _image(self) -> Image.Image:
        """The image, its longer side that of a tile; a gray one that says so if it is damaged."""
        try:
            with Image.open(io.BytesIO(self.features[schema.ENCODED][0])) as encoded:
                encoded.draft("RGB", (2 * TILE, 2 * TILE))
                scale = TILE / max(encoded.size)
                size = (max(1, round(encoded.width * scale)), max(1, round(encoded.height * scale)))
                return encoded.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        except Exception:  # Pillow's parsers raise whatever they stumble over
            damaged = Image.new("RGB", (TILE, TILE), "#d9d9d9")
            _line(ImageDraw.Draw(damaged), TILE // 2, " cannot be decoded", 14, INK)
            return damaged


def _line(draw: ImageDraw.ImageDraw, top: int, text: str, size: int, color: str) -> None:
    """One line, cut to the width of a tile."""
    font = ImageFont.load_default(size)
    text = " ".join(text.split())[:TILE]  # no letter is narrower than a pixel
    while text and draw.textlength(text, font) > TILE:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    draw.text((0, top), text, fill=color, font=font)


def contact_sheet(pictures: list[Picture], title: str) -> bytes:
    """PNG of the pictures in rows of eight, in their order."""
    tiles = [picture.tile() for picture in pictures]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    head = 44
    sheet = Image.new(
        "RGB",
        (
            max(columns, 4) * (TILE + GAP) + GAP,
            head + rows * (TILE + CAPTION + GAP) + GAP,
        ),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), title, fill=INK, font=ImageFont.load_default(17))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (GAP + column * (TILE + GAP), head + row * (TILE + CAPTION + GAP)))
    return _png(sheet)


def _png(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def histograms(manifest: Manifest) -> bytes:
    """PNG of images per class, and of files and images by size, both splits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    _draw_classes(figure.add_subplot(grid[0, :]), manifest)
    _draw_sizes(figure.add_subplot(grid[1, 0]), manifest, "source_bytes", "size of the file, bytes")
    _draw_sizes(figure.add_subplot(grid[1, 1]), manifest, "short_sides", "shorter side, pixels")
    examples = " + ".join(f"{manifest.num_examples(split):,} {split}" for split in SPLITS)
    figure.suptitle(f"{len(manifest.classes):,} classes, {examples} images")
    packed = io.BytesIO()
    figure.savefig(packed, format="png", dpi=110)
    pyplot.close(figure)
    return packed.getvalue()


def _draw_classes(axes: Any, manifest: Manifest) -> None:
    """Bars of named classes, or, when there are many, classes from rare to frequent."""
    counts = {split: manifest.statistics[split]["class_counts"] for split in SPLITS}
    if len(manifest.classes) <= MAX_NAMED_CLASSES:
        places = np.arange(len(manifest.classes))
        for offset, (split, of_class) in zip((-0.2, 0.2), counts.items(), strict=True):
            axes.bar(places + offset, of_class, width=0.4, label=split)
        names = [each.text.split(",")[0][:20] for each in manifest.classes]
        turned = {"rotation": 45, "ha": "right"} if len(names) > 12 else {}
        axes.set_xticks(places, names, **turned)
    else:
        for split, of_class in counts.items():
            axes.stairs(sorted(of_class), np.arange(len(of_class) + 1), label=split, linewidth=2)
        axes.set(xlabel="classes, from the rarest to the most frequent", ylim=(0, None))
    axes.set_ylabel("images per class")
    axes.margins(x=0.01)
    _finish(axes)


def _draw_sizes(axes: Any, manifest: Manifest, name: str, label: str) -> None:
    """Share of each split per logarithmic bin: train filled, validation as a line."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    styles: tuple[dict[str, Any], ...] = ({"fill": True, "alpha": 0.5}, {"linewidth": 2})
    for split, style in zip(SPLITS, styles, strict=True):
        bins = {
            round(BINS_PER_OCTAVE * math.log2(edge)): count
            for edge, count in manifest.statistics[split][name]
        }
        numbers = range(min(bins, default=0), max(bins, default=0) + 1)
        share = np.array([bins.get(number, 0) for number in numbers]) / max(1, sum(bins.values()))
        edges = 2.0 ** (np.arange(len(share) + 1) / BINS_PER_OCTAVE + numbers[0] / BINS_PER_OCTAVE)
        axes.stairs(100 * share, edges, label=split, **style)
    axes.set(xscale="log", xlabel=label, ylabel="% of the images")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
