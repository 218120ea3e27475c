"""What a run looks like in TensorBoard."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

GRID_SIDE = 5  # images per row and column


class Summaries:
    """Event files of the chief; every other worker writes nothing."""

    def __init__(self, folder: str, enabled: bool) -> None:
        self._writer = (
            tf.summary.create_file_writer(folder) if enabled else tf.summary.create_noop_writer()
        )

    def scalars(self, step: int, named: dict[str, float]) -> None:
        """Write `named` values at `step` and make them visible."""
        with self._writer.as_default(step):
            for name, value in named.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def images(self, step: int, name: str, images: Any) -> None:
        """Write `[N, S, S, 3]` images in [-1, 1] as one grid."""
        with self._writer.as_default(step):
            tf.summary.image(name, grid(np.asarray(images))[np.newaxis])
        self._writer.flush()


def grid(images: np.ndarray) -> np.ndarray:
    """Lay `[N, S, S, 3]` images in [-1, 1] out as `uint8 [5 S, 5 S, 3]`, row by row."""
    side = images.shape[1]
    canvas = np.zeros((GRID_SIDE * side, GRID_SIDE * side, 3), np.uint8)
    for index, image in enumerate(images[: GRID_SIDE**2]):
        row, column = divmod(index, GRID_SIDE)
        canvas[row * side : (row + 1) * side, column * side : (column + 1) * side] = np.round(
            (image + 1) * 127.5
        )
    return canvas
