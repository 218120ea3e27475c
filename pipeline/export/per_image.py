"""The predictions of every format on every validation image: `predictions.npz`."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.export.predictions import Predictions
from preprocessing import storage
from preprocessing.errors import DataError, UsageError, did_you_mean

FILE = "predictions.npz"


@dataclass(frozen=True, slots=True)
class PerImage:
    """The predictions of one format on N validation images, in the order of the records.

    Attributes:
        labels: `int64 [N]`, the true classes.
        ranks: `int64 [N]`, the number of classes before the true one; 0 is right.
        classes: `int64 [N, 5]`, the best classes, best first.
        scores: `float32 [N, 5]`, their probabilities.
        positions: `int64 [N]`, the images' places in the validation split.
    """

    labels: np.ndarray
    ranks: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    positions: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """`bool [N]`: whether the true class is the best one."""
        return self.ranks == 0

    def class_counts(self, num_outputs: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the right images and all images per class: two `int64 [num_outputs]`."""
        return (
            np.bincount(self.labels[self.right], minlength=num_outputs),
            np.bincount(self.labels, minlength=num_outputs),
        )


def write(
    folder: str,
    predictions_by_format: Mapping[str, Predictions],
    num_outputs: int,
    positions: np.ndarray | None = None,
) -> None:
    """Write `predictions.npz`; the same predictions give the same bytes.

    Args:
        folder: The export.
        predictions_by_format: The predictions of every format.
        num_outputs: Classes and the background.
        positions: The images' places in the validation split; None if it is the whole split.
    """
    arrays: dict[str, np.ndarray] = {}
    integer = _integer_for(num_outputs)
    for name, predictions in predictions_by_format.items():
        arrays["labels"] = predictions.labels.astype(integer)
        arrays[f"{name}.ranks"] = predictions.ranks.astype(integer)
        arrays[f"{name}.classes"] = predictions.classes.astype(integer)
        arrays[f"{name}.scores"] = predictions.scores.astype(np.float16)
    if positions is not None:
        arrays["positions"] = positions
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    storage.write_bytes(os.path.join(folder, FILE), packed.getvalue())


def _integer_for(num_outputs: int) -> type[np.signedinteger]:
    """Return the smallest type for labels and ranks below `num_outputs`, at least `int16`."""
    return np.int16 if num_outputs <= np.iinfo(np.int16).max + 1 else np.int32


def read(folder: str, name: str = "checkpoint") -> PerImage:
    """Read the predictions of format `name` of an export.

    Raises:
        UsageError: The export has no such format or holds no predictions.
        DataError: The file is damaged.
    """
    path = storage.join(folder, FILE)
    if not storage.exists(path):
        raise UsageError(f"{folder} has no {FILE}; export again to have it")
    try:
        arrays = np.load(io.BytesIO(storage.read_bytes(path)))
        formats = sorted(key.removesuffix(".ranks") for key in arrays if key.endswith(".ranks"))
        if name not in formats:
            raise UsageError(f"{folder} has no format {name!r}; {did_you_mean(name, formats)}")
        labels = arrays["labels"].astype(np.int64)
        return PerImage(
            labels=labels,
            ranks=arrays[f"{name}.ranks"].astype(np.int64),
            classes=arrays[f"{name}.classes"].astype(np.int64),
            scores=arrays[f"{name}.scores"].astype(np.float32),
            positions=arrays["positions"] if "positions" in arrays else np.arange(len(labels)),
        )
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); export again") from error
