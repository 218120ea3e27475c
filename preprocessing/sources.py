"""What images a user has: the official ILSVRC2012 archives, listed without unpacking them.

`ILSVRC2012_img_train.tar` is a tar of one tar per synset, `ILSVRC2012_img_val.tar` is
flat. Only tar headers are read here; an image is later read in place, by offset.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from typing import IO, Any

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.references import ImageReference, Source
from preprocessing.schema import ImageClass

__all__ = ["ImageReference", "Source", "find_source"]

TRAIN_ARCHIVE = "ILSVRC2012_img_train.tar"
VALIDATION_ARCHIVE = "ILSVRC2012_img_val.tar"
# Line i is the synset of ILSVRC2012_val_{i:08d}.JPEG; slim's datasets folder carries it.
VALIDATION_LABELS = "imagenet_2012_validation_synset_labels.txt"
# "synset<TAB>words" per line; slim's datasets folder carries it. Optional.
SYNSET_WORDS = "imagenet_metadata.txt"


class _Window:
    """A read-only view of `size` bytes of `stream` from `offset`, for a tar inside a tar."""

    def __init__(self, stream: IO[bytes], offset: int, size: int) -> None:
        self._stream, self._offset, self._size, self._position = stream, offset, size, 0

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._position, 2: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if size < 0 else min(size, left)
        self._stream.seek(self._offset + self._position)
        content = self._stream.read(wanted)
        self._position += len(content)
        return content


def _members(stream: Any, name: str) -> Iterator[tarfile.TarInfo]:
    """The regular files of an uncompressed tar, in its order, with their offsets."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    yield member
    except tarfile.TarError as error:
        raise DataError(
            f"{name} is not a complete tar archive ({error}); compare its size and checksum "
            "with the download page and fetch it again"
        ) from error


def find_source(folder: str) -> Source:
    """List the images of the ILSVRC2012 archives in `folder`.

    Raises:
        UsageError: Something is missing; names what was looked for.
        DataError: An archive is damaged, or labels and images do not match.
    """
    if not storage.exists(folder):
        raise UsageError(f"source {folder} does not exist; pass the folder that holds the archives")
    needed = (TRAIN_ARCHIVE, VALIDATION_ARCHIVE, VALIDATION_LABELS)
    missing = [name for name in needed if not storage.exists(storage.join(folder, name))]
    if missing:
        raise UsageError(
            f"source {folder} lacks {', '.join(missing)}; looked for the official archives: "
            f"{', '.join(needed)} (and {SYNSET_WORDS} for class names)"
        )
    train_path = storage.join(folder, TRAIN_ARCHIVE)
    with storage.open_read(train_path) as stream:
        synsets = sorted({_synset(member, train_path) for member in _members(stream, train_path)})
    if not synsets:
        raise DataError(f"{train_path} is empty; expected one tar per synset inside")
    labels = {synset: index for index, synset in enumerate(synsets, start=1)}
    words = _synset_words(folder)
    return Source(
        classes=tuple(
            ImageClass(index=index, synset=synset, text=words.get(synset, synset))
            for synset, index in labels.items()
        ),
        description={
            "layout": "ILSVRC2012 archives",
            "files": {name: storage.size_bytes(storage.join(folder, name)) for name in needed},
        },
        listings={
            "train": partial(_train_images, train_path, labels),
            "validation": partial(_validation_images, folder, labels),
        },
    )


def _synset(member: tarfile.TarInfo, path: str) -> str:
    synset, extension = posixpath.splitext(posixpath.basename(member.name))
    if extension != ".tar":
        raise DataError(
            f"{path} holds {member.name}; expected one tar per synset, like n01440764.tar"
        )
    return synset


def _train_images(path: str, labels: dict[str, int]) -> Iterator[ImageReference]:
    with storage.open_read(path) as stream:
        for outer in list(_members(stream, path)):
            synset = _synset(outer, path)
            window = _Window(stream, outer.offset_data, outer.size)
            for inner in _members(window, f"{outer.name} in {path}"):
                name = posixpath.basename(inner.name)
                offset = outer.offset_data + inner.offset_data
                yield ImageReference(
                    f"train/{synset}/{name}", path, offset, inner.size, labels[synset]
                )


def _validation_images(folder: str, labels: dict[str, int]) -> Iterator[ImageReference]:
    path = storage.join(folder, VALIDATION_ARCHIVE)
    labels_path = storage.join(folder, VALIDATION_LABELS)
    synsets = storage.read_bytes(labels_path).decode().split()
    count = 0
    with storage.open_read(path) as stream:
        for member in _members(stream, path):
            name = posixpath.basename(member.name)
            number = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", name)
            if not number or not 1 <= int(number[1]) <= len(synsets):
                raise DataError(
                    f"{path} holds {member.name}; expected ILSVRC2012_val_00000001.JPEG to "
                    f"ILSVRC2012_val_{len(synsets):08d}.JPEG"
                )
            synset = synsets[int(number[1]) - 1]
            if synset not in labels:
                raise DataError(
                    f"{labels_path} line {int(number[1])} names {synset}, "
                    "which has no training images"
                )
            count += 1
            yield ImageReference(
                f"validation/{synset}/{name}",
                path,
                member.offset_data,
                member.size,
                labels[synset],
            )
    if count != len(synsets):
        raise DataError(
            f"{path} holds {count} images but {labels_path} has {len(synsets)} lines; "
            "they must match line by line"
        )


def _synset_words(folder: str) -> dict[str, str]:
    path = storage.join(folder, SYNSET_WORDS)
    if not storage.exists(path):
        return {}
    lines = storage.read_bytes(path).decode().splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)
