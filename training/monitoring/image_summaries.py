"""Pictures of the mistakes of a model, as `uint8 [H, W, 3]`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.monitoring import image_grid
from training.monitoring.plot_text import literal

COLUMNS = 5
TILE_PIXELS = 160  # smaller images are enlarged to this side
CAPTION_LINES = 2
MATRIX_CLASSES = 30  # more classes are shown as a list
LISTED = 25


def captioned_views(views: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Return `float [S, S, 3]` views in [-1, 1], each with a caption of two lines, row by row."""
    side = max(TILE_PIXELS, views[0].shape[0])
    tiles = [
        image_grid.captioned(
            image_grid.view_image(view, side), "\n".join(caption.split("\n")[:CAPTION_LINES])
        )
        for view, caption in zip(views, captions, strict=True)
    ]
    return np.asarray(image_grid.grid(tiles, COLUMNS))


def confusion(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draw which classes are mistaken for which: a matrix for few classes, a list for many.

    Args:
        labels: True classes, `[N]`.
        predicted: Predicted classes, `[N]`.
        names: Name of each class, the background first.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = confusion_counts(labels, predicted, len(names))
    figure = Figure(figsize=(8, 7), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if len(names) <= MATRIX_CLASSES:
        share = wrong / np.maximum(1, counts.sum(axis=1, keepdims=True))
        seen = range(1, len(names))  # nothing is labelled background
        shown = axes.imshow(share[1:, 1:], cmap="Reds", vmin=0, vmax=max(0.01, share.max()))
        for row in seen:
            for column in seen:
                count = counts[row, column]
                if count:
                    dark = share[row, column] > share.max() / 2
                    color = "grey" if row == column else "white" if dark else "black"
                    axes.text(
                        column - 1, row - 1, str(count), ha="center", va="center", color=color
                    )
        ticks = [literal(name) for name in names[1:]]
        axes.set_xticks(range(len(ticks)), ticks, rotation=60, ha="right")
        axes.set_yticks(range(len(ticks)), ticks)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        figure.colorbar(shown, ax=axes, label="share of the true class that was mistaken")
    else:
        order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
        pairs = [divmod(int(index), len(names)) for index in order if wrong.flat[index]]
        axes.barh(
            [
                literal(f"{names[true][:22]} \N{RIGHTWARDS ARROW} {names[guess][:22]}")
                for true, guess in pairs
            ],
            [int(wrong[pair]) for pair in pairs],
            color="firebrick",
        )
        axes.invert_yaxis()
        axes.set_xlabel("images (true class, then the predicted class)")
    axes.set_title(f"{wrong.sum()} of {counts.sum()} images are mistaken")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return `int64 [classes, classes]`: images by true class and predicted class."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts
