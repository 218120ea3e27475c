"""Plots of the counts of a records folder."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from preprocessing.records.schema import BINS_PER_OCTAVE, SPLITS, Manifest, SplitStatistics
from training.monitoring.plot_text import literal

MAX_NAMED_CLASSES = 40  # more classes are drawn as a curve

SizesOf = Callable[[SplitStatistics], tuple[tuple[int, int], ...]]


def draw_histograms(manifest: Manifest) -> bytes:
    """Return a PNG of images per class, and of files and images by size, for both splits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    _draw_classes(figure.add_subplot(grid[0, :]), manifest)
    _draw_sizes(
        figure.add_subplot(grid[1, 0]),
        manifest,
        attrgetter("source_bytes"),
        "size of the file, bytes",
    )
    _draw_sizes(
        figure.add_subplot(grid[1, 1]), manifest, attrgetter("short_sides"), "shorter side, pixels"
    )
    examples = " + ".join(f"{manifest.num_examples(split):,} {split}" for split in SPLITS)
    figure.suptitle(f"{len(manifest.classes):,} classes, {examples} images")
    packed = io.BytesIO()
    figure.savefig(packed, format="png", dpi=110)
    pyplot.close(figure)
    return packed.getvalue()


def _draw_classes(axes: Any, manifest: Manifest) -> None:
    """Draw bars of named classes or, when there are many, classes from rare to frequent."""
    counts = {split: manifest.statistics.of(split).class_counts for split in SPLITS}
    if len(manifest.classes) <= MAX_NAMED_CLASSES:
        places = np.arange(len(manifest.classes))
        for offset, (split, of_class) in zip((-0.2, 0.2), counts.items(), strict=True):
            axes.bar(places + offset, of_class, width=0.4, label=split)
        texts = (image_class.text.split(",")[0][:20] for image_class in manifest.classes)
        names = [literal(text) for text in texts]
        turned = {"rotation": 45, "ha": "right"} if len(names) > 12 else {}
        axes.set_xticks(places, names, **turned)
    else:
        for split, of_class in counts.items():
            axes.stairs(sorted(of_class), np.arange(len(of_class) + 1), label=split, linewidth=2)
        axes.set(xlabel="classes, from the rarest to the most frequent", ylim=(0, None))
    axes.set_ylabel("images per class")
    axes.margins(x=0.01)
    _finish(axes)


def _draw_sizes(axes: Any, manifest: Manifest, sizes_of: SizesOf, label: str) -> None:
    """Draw the share of each split per logarithmic bin: train filled, validation as a line."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    styles: tuple[dict[str, Any], ...] = ({"fill": True, "alpha": 0.5}, {"linewidth": 2})
    for split, style in zip(SPLITS, styles, strict=True):
        sizes = sizes_of(manifest.statistics.of(split))
        if not sizes:
            continue
        bins = {round(BINS_PER_OCTAVE * math.log2(edge)): count for edge, count in sizes}
        numbers = range(min(bins), max(bins) + 1)
        share = np.array([bins.get(number, 0) for number in numbers]) / sum(bins.values())
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
