"""A source with ImageNet's counts, names and archives, of images small enough for any disk."""

from __future__ import annotations

import itertools
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from benchmarks.photographs import NUM_PIXEL_IMAGES, add, numbered, photograph
from preprocessing.sources import archives

WIDTH, HEIGHT, QUALITY = 64, 56, 75  # pixels; about 1.5 KB a file
MOST_PER_CLASS = 1300  # of ILSVRC2012's 1,000 classes 895 have this many


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many images and classes a source has; the defaults are those of ILSVRC2012."""

    train: int = 1_281_167
    validation: int = 50_000
    classes: int = 1_000

    def per_class(self) -> list[int]:
        """Return the training images of every class: as many as possible have 1,300."""
        full = self.classes * 895 // 1000
        if not 0 < self.train - full * MOST_PER_CLASS < (self.classes - full) * MOST_PER_CLASS:
            full = 0
        others = self.classes - full
        each, more = divmod(self.train - full * MOST_PER_CLASS, others)
        return [MOST_PER_CLASS] * full + [each + 1] * more + [each] * (others - more)


def synsets(counts: Counts) -> list[str]:
    """Return names of the form that ImageNet's have; they ascend, as the real ones do."""
    step = min(13_000, 98_000_000 // counts.classes)  # the names keep their eight digits
    return [f"n{1440764 + step * index:08d}" for index in range(counts.classes)]


def write_source(folder: str, counts: Counts) -> None:
    """Write the official archives with small, different JPEGs."""
    os.makedirs(folder)
    rng = np.random.default_rng(2018)
    pictures = [photograph(rng, WIDTH, HEIGHT, QUALITY) for _ in range(NUM_PIXEL_IMAGES)]
    jpegs: Iterator[bytes] = (
        numbered(pictures[number % NUM_PIXEL_IMAGES], number) for number in itertools.count()
    )
    names = synsets(counts)
    _write_train(os.path.join(folder, archives.TRAIN_ARCHIVE), names, counts, jpegs)
    with tarfile.open(os.path.join(folder, archives.VALIDATION_ARCHIVE), "w") as validation:
        for number in range(1, counts.validation + 1):
            add(validation, f"ILSVRC2012_val_{number:08d}.JPEG", next(jpegs))
    order = np.random.default_rng(50).permutation(counts.validation) % counts.classes
    with open(os.path.join(folder, archives.VALIDATION_LABELS), "w") as labels:
        labels.writelines(f"{names[index]}\n" for index in order)


def _write_train(path: str, names: list[str], counts: Counts, jpegs: Iterator[bytes]) -> None:
    inner = f"{path}.class"
    progress = tqdm(list(zip(names, counts.per_class(), strict=True)), desc="source")
    with tarfile.open(path, "w") as train:
        for synset, count in progress:
            with tarfile.open(inner, "w") as class_archive:
                for number in range(1, count + 1):
                    add(class_archive, f"{synset}_{number}.JPEG", next(jpegs))
            train.add(inner, f"{synset}.tar")
    os.unlink(inner)
