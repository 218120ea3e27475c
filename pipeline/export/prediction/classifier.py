"""A classifier: a model's runner, its labels, and the way from any image to its input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from pipeline.export.formats.export_format import Runner
from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.images.repair import RejectedImageError, repair
from training.config import EvaluationConfig
from training.input.inception import eval_view

# The path of a file, local or gs://; the bytes of a file; or pixels `uint8 [H, W, 3]`.
Image: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray

BATCH = 32


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a classifier says about one image.

    Attributes:
        probabilities: `float32 [outputs]`, in the order of `labels`.
        labels: Names of the outputs; 0 is the background.
    """

    probabilities: np.ndarray
    labels: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name of the most likely class."""
        return self.labels[int(self.probabilities.argmax())]

    @property
    def probability(self) -> float:
        """Probability of the most likely class, in [0, 1]."""
        return float(self.probabilities.max())

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the most likely classes with their probabilities, best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[index], float(self.probabilities[index])) for index in best]


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifier:
    """`classifier(image)`: an exported model in its own runtime.

    Attributes:
        labels: Names of the outputs; 0 is the background.
        image_size: S, pixels.
        evaluation: How images are prepared, as where the model's accuracy was measured.
        run: From `float32 [N, S, S, 3]` in [-1, 1] to probabilities `float32 [N, outputs]`.
    """

    labels: tuple[str, ...]
    image_size: int
    evaluation: EvaluationConfig
    run: Runner

    def __call__(self, image: Image) -> Prediction:
        """Classify one image.

        Args:
            image: A path, the bytes of a file (JPEG, PNG, GIF, BMP or WebP), or `uint8 [H, W, 3]`.

        Raises:
            DataError: It is no image.
            OSError: The file cannot be read.
        """
        return self.classify([image])[0]

    def classify(self, images: Sequence[Image]) -> list[Prediction]:
        """Classify images, in batches.

        Raises:
            DataError: One of them is no image; the message says which.
            OSError: A file cannot be read.
        """
        found = []
        for start in range(0, len(images), BATCH):
            batch = np.stack([self.prepared(image) for image in images[start : start + BATCH]])
            found += [Prediction(row, self.labels) for row in self.run(batch)]
        return found

    def prepared(self, image: Image) -> np.ndarray:
        """Return an image as the model sees it, `float32 [S, S, 3]` in [-1, 1].

        Files are treated as `prepare --apply-orientation` and evaluation treat them: what is no
        RGB JPEG is encoded as one, and images are turned upright by their EXIF orientation.

        Raises:
            DataError: It is no image.
            OSError: The file cannot be read.
        """
        jpeg = _jpeg_of(image)
        view: np.ndarray = eval_view(tf.constant(jpeg), self.image_size, self.evaluation).numpy()
        return view


def _jpeg_of(image: Image) -> bytes:
    if isinstance(image, np.ndarray):
        return _encoded(image)
    content = image if isinstance(image, bytes) else storage.read_bytes(os.fspath(image))
    try:
        return repair(content, decode_check=True, apply_orientation=True).jpeg
    except RejectedImageError as error:
        name = "the image" if isinstance(image, bytes) else os.fspath(image)
        raise DataError(f"{name} cannot be classified: {error}") from None


def _encoded(pixels: np.ndarray) -> bytes:
    """Return pixels as a JPEG of the best quality, as repaired images are."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(
            f"an array of {pixels.dtype} {list(pixels.shape)} is no image; expected uint8 [H, W, 3]"
        )
    encoded: bytes = tf.io.encode_jpeg(pixels, quality=100, chroma_downsampling=False).numpy()
    return encoded
