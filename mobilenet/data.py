"""Records as datasets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from preprocessing.records.schema import Manifest
from training.config.recipes import DEFAULT_RECIPE, configured
from training.models.variants import Variant

if TYPE_CHECKING:
    import tensorflow as tf

Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Records:
    """A folder that `mobilenet prepare` wrote.

    Attributes:
        folder: The folder, local or in a bucket.
        manifest: Its `dataset.json`.
    """

    folder: str
    manifest: Manifest

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; class i of the labels, from 1, is at i - 1."""
        return tuple(image_class.text for image_class in self.manifest.classes)

    def num_examples(self, split: Split) -> int:
        """Return the exact number of images in a split."""
        return self.manifest.num_examples(split)

    def dataset(
        self,
        split: Split,
        *,
        size: int = 224,
        batch: int = 32,
        recipe: str = DEFAULT_RECIPE,
        seed: int = 0,
    ) -> tf.data.Dataset:
        """Return the batches of a split, prepared as a recipe does in a run.

        Training images are augmented, in another order and with other draws in every pass, and
        never end: pass `steps_per_epoch` to `fit`. Validation images come once, in order.

        Args:
            split: `train` or `validation`.
            size: S, the side of the images, pixels.
            batch: Images per batch; the last validation batch may be smaller.
            recipe: Recipe whose augmentation or evaluation is applied.
            seed: Seed of order and augmentation.

        Returns:
            Elements `(pixels, labels)`: `float32 [B, S, S, 3]` in [0, 255] and `int64 [B]`, labels
            from 1.

        Raises:
            UsageError: There is no such split, recipe or size, or the split is empty.
            DataError: The records are damaged.
        """
        from mobilenet import streams

        config = configured(recipe, Variant.parse("mobilenet_v2_1.0_224"))
        return streams.batches(
            self.folder, self.manifest, config, split=split, size=size, batch=batch, seed=seed
        )


def records(folder: str | os.PathLike[str]) -> Records:
    """Open a records folder.

    Args:
        folder: The folder, local or in a bucket.

    Raises:
        UsageError: It holds no records.
        DataError: Its `dataset.json` is damaged.
    """
    path = os.fspath(folder)
    return Records(path, Manifest.read(path))
