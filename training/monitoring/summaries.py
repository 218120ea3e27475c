"""TensorBoard's event files, written by the chief; a bucket gets them through a local folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message

from preprocessing import storage

GRID_SIDE = 5  # images per row and column


class Summaries:
    """Event files of the chief; every other worker writes nothing.

    Attributes:
        folder: Where they are written: `folder` itself, or a local copy that is uploaded.
    """

    def __init__(self, folder: str, enabled: bool) -> None:
        self.enabled = enabled
        self._uploads_to = folder if enabled and storage.is_remote(folder) else ""
        self._sizes: dict[str, int] = {}
        self._temporary = contextlib.ExitStack()
        self.folder = (
            self._temporary.enter_context(storage.temporary_folder("tensorboard"))
            if self._uploads_to
            else folder
        )
        self._writer = (
            tf.summary.create_file_writer(self.folder)
            if enabled
            else tf.summary.create_noop_writer()
        )

    def scalars(self, step: int, named: Mapping[str, float | None]) -> None:
        """Write `named` values at `step` and make them visible; None is left out."""
        with self._writer.as_default(step):
            for name, value in named.items():
                if value is not None:
                    tf.summary.scalar(name, value)
        self._flush()

    def histograms(self, step: int, named: dict[str, np.ndarray]) -> None:
        """Write the distributions of `named` values."""
        with self._writer.as_default(step):
            for name, value in named.items():
                tf.summary.histogram(name, value)
        self._flush()

    def images(
        self, step: int, name: str, images: np.ndarray | tf.Tensor, description: str = ""
    ) -> None:
        """Write `[N, S, S, 3]` images in [-1, 1] as one grid."""
        self.picture(step, name, grid(np.asarray(images)), description)

    def picture(self, step: int, name: str, picture: np.ndarray, description: str = "") -> None:
        """Write one `uint8 [H, W, 3]` picture."""
        with self._writer.as_default(step):
            tf.summary.image(name, picture[np.newaxis], description=description)
        self._flush()

    def text(self, step: int, name: str, markdown: str) -> None:
        """Write a text in Markdown."""
        with self._writer.as_default(step):
            tf.summary.text(name, markdown)
        self._flush()

    def raw(self, step: int, *protos: Message) -> None:
        """Write summaries of a plugin, such as HParams."""
        with self._writer.as_default(step):
            for proto in protos:
                tf.summary.experimental.write_raw_pb(proto.SerializeToString(), step=step)
        self._flush()

    def close(self) -> None:
        """Write everything that is pending."""
        self._writer.close()
        self.upload()
        self._temporary.close()

    def upload(self) -> None:
        """Copy what has grown since the last upload into the bucket, if the run is in one."""
        if not self._uploads_to:
            return
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                size = os.path.getsize(path)
                if self._sizes.get(path) != size:
                    target = storage.join(self._uploads_to, os.path.relpath(path, self.folder))
                    with open(path, "rb") as source, storage.open_write(target) as stream:
                        shutil.copyfileobj(source, stream)
                    self._sizes[path] = size

    def _flush(self) -> None:
        self._writer.flush()


def grid(images: np.ndarray) -> np.ndarray:
    """Return `[N, S, S, 3]` images in [-1, 1] as `uint8 [5 S, 5 S, 3]`, row by row."""
    side = images.shape[1]
    canvas = np.zeros((GRID_SIDE * side, GRID_SIDE * side, 3), np.uint8)
    for index, image in enumerate(images[: GRID_SIDE**2]):
        row, column = divmod(index, GRID_SIDE)
        canvas[row * side : (row + 1) * side, column * side : (column + 1) * side] = np.round(
            (image + 1) * 127.5
        )
    return canvas
