"""A folder per class without validation images, a fraction of which is held out for that.

The classes are in `train/` or in the source itself. Which images are held out follows from their
class and name alone, so a new image moves few others, and two machines agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.sources import archives, folders, kaggle
from preprocessing.sources.ignored import IgnoredFiles, unread_in
from preprocessing.sources.references import ImageReference, Source, classes_of
from preprocessing.sources.words import WORDS, class_words
from preprocessing.storage.map_ahead import map_ahead


def is_here(folder: str) -> bool:
    """Return whether `folder`, or `train/` in it, has folders, without validation images."""
    if any(layout.is_here(folder) for layout in (archives, kaggle)):
        return False
    if folders.validation_in(folder):
        return False
    return folders.is_here(folder) or any(
        entry.is_folder for entry in folders.entries(folder, IgnoredFiles())
    )


def find(folder: str, fraction: float) -> Source:
    """List the images of a folder per class, a fraction of each class as validation images.

    Args:
        folder: The source.
        fraction: Fraction of each class, in (0, 1). A class of one image keeps it for training;
            any other holds out at least one, and keeps at least one.

    Raises:
        UsageError: The source has validation images, or another layout.
        DataError: The folders hold something other than class folders.
    """
    if not is_here(folder):
        found = folders.validation_in(folder)
        reason = f"{found[0]} in it" if found else "another layout"
        raise UsageError(
            f"--validation-fraction is for a folder per class without validation images, and "
            f"source {folder} has {reason}; leave it out"
        )
    train = storage.join(folder, folders.TRAIN)
    classes = train if folders.is_here(folder) else folder
    names = folders.classes_in(classes, IgnoredFiles(), beside=WORDS)
    folders.refuse_two_spellings(names, folder)
    labels = {name: index for index, name in enumerate(names, start=1)}
    words = class_words(folder, names)
    ignored = IgnoredFiles()
    return Source(
        classes=classes_of(labels, words),
        description={
            "layout": "folder per class",
            "classes": len(names),
            "validation": f"{fraction:g} of each class, by the SHA-256 of class and name",
        },
        listings={
            split: partial(_images, classes, split, labels, fraction, ignored)
            for split in ("train", "validation")
        },
        ignored=ignored,
        unread=unread_in(folder, {folders.TRAIN, *WORDS} if classes == train else {*names, *WORDS}),
    )


def _images(
    folder: str, split: str, labels: dict[str, int], fraction: float, ignored: IgnoredFiles
) -> Iterator[ImageReference]:
    def of_class(name: str) -> list[ImageReference]:
        images = folders.images_in(storage.join(folder, name), split, name, labels[name], ignored)
        count = min(len(images) - 1, max(1, round(fraction * len(images))))
        ranked = sorted(images, key=lambda image: _rank(name, image.filename))
        return ranked[:count] if split == "validation" else ranked[count:]

    for references in map_ahead(of_class, list(labels), folder):
        yield from references


def _rank(name: str, filename: str) -> bytes:
    return hashlib.sha256(f"{name}/{filename}".encode("utf-8", "surrogateescape")).digest()
