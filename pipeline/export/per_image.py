"""The predictions of every format on every validation image: `predictions.npz`."""

from __future__ import annotations

import io
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.export.predictions import Predictions
from preprocessing import storage
from preprocessing.errors import DataError, UsageError, did_you_mean

FILE = "predictions.npz"
MAX_FILE_BYTES = 256 << 20  # fifty times that of ImageNet with every format
MAX_ARRAY_BYTES = 64 << 20  # of one array; the largest of ImageNet has 0.5 MB


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


def read(folder: str, name: str = "checkpoint", num_outputs: int | None = None) -> PerImage:
    """Read the predictions of format `name` of an export.

    Args:
        folder: The export.
        name: The format.
        num_outputs: Classes and the background; None where nobody looks them up by name.

    Raises:
        UsageError: The export has no such format or holds no predictions.
        DataError: The file is damaged, or speaks of other classes.
    """
    path = storage.join(folder, FILE)
    if not storage.exists(path):
        raise UsageError(f"{folder} has no {FILE}; export again to have it")
    try:
        content = storage.read_bytes(path, max_bytes=MAX_FILE_BYTES + 1)
        _require_small(content)
        arrays = np.load(io.BytesIO(content))
        formats = sorted(key.removesuffix(".ranks") for key in arrays if key.endswith(".ranks"))
        if name not in formats:
            raise UsageError(f"{folder} has no format {name!r}; {did_you_mean(name, formats)}")
        labels = arrays["labels"].astype(np.int64)
        answers = PerImage(
            labels=labels,
            ranks=arrays[f"{name}.ranks"].astype(np.int64),
            classes=arrays[f"{name}.classes"].astype(np.int64),
            scores=arrays[f"{name}.scores"].astype(np.float32),
            positions=(
                arrays["positions"].astype(np.int64)
                if "positions" in arrays
                else np.arange(len(labels))
            ),
        )
        _require_consistent(answers, num_outputs)
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged ({reason}); export again") from error
    return answers


_DAMAGE = (
    *(ValueError, TypeError, KeyError, EOFError, MemoryError, NotImplementedError, RuntimeError),
    *(OSError, zipfile.BadZipFile, zlib.error, SyntaxError, tokenize.TokenError),
)


def _require_small(content: bytes) -> None:
    """Raise ValueError for arrays that would need more memory than any export's."""
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES:,} bytes")
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        for member in packed.infolist():
            if member.file_size > MAX_ARRAY_BYTES:
                raise ValueError(f"{member.filename!r:.60} has {member.file_size:,} bytes")


def _require_consistent(answers: PerImage, num_outputs: int | None) -> None:
    """Raise ValueError for the first array that contradicts the others or the classes."""
    (num_images,) = answers.labels.shape
    shapes = {
        "ranks": (num_images,),
        "classes": (num_images, *answers.classes.shape[1:2]),
        "scores": answers.classes.shape,
        "positions": (num_images,),
    }
    for name, shape in shapes.items():
        if getattr(answers, name).shape != shape:
            raise ValueError(f"{name} are {getattr(answers, name).shape}, not {shape}")
    if not num_images or not answers.classes.shape[1:]:
        raise ValueError("no images")
    limit = num_outputs or np.iinfo(np.int32).max
    for name in ("labels", "ranks", "classes"):
        values = getattr(answers, name)
        if not 0 <= values.min() <= values.max() < limit:
            raise ValueError(f"{name} are not all in [0, {limit})")
    if answers.positions.min() < 0:
        raise ValueError("positions are negative")
