"""The files of TensorFlow checkpoints, told by their content. TensorFlow is not imported.

Format V2 is `x.index` with `x.data-00000-of-00001` and more. Format V1, which TensorFlow wrote
before version 0.12, is a single file `x`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator

from preprocessing.errors import DataError
from preprocessing.storage.tgz import MAX_UNPACKED_RATIO

INDEX, DATA = ".index", ".data-"
# A table of TensorFlow ends like this (tensorflow/core/lib/io/format.h, kTableMagicNumber).
_TABLE_END = bytes.fromhex("57fb808b247547db")
MAX_CHECKPOINT_BYTES = 2 << 30  # twenty times the largest, with every slot of the optimizer


def require_size(path: str, num_bytes: int) -> None:
    """Refuse a checkpoint that is larger than any of this kind of network.

    Raises:
        DataError: The message has both sizes.
    """
    if num_bytes > MAX_CHECKPOINT_BYTES:
        raise DataError(
            f"{path} has {num_bytes:,} bytes; allowed: {MAX_CHECKPOINT_BYTES:,}, so it is no "
            "checkpoint of a MobileNet"
        )


def require_held(path: str, promised_bytes: int, files: Iterable[str], ratio: int = 1) -> None:
    """Refuse a checkpoint that promises larger values than its files can hold.

    Args:
        path: The checkpoint in messages.
        promised_bytes: Size of the values as shapes and types give it.
        files: The files that hold the values.
        ratio: How many times larger than the files the values may be, where they are compressed.

    Raises:
        DataError: The message has both sizes.
    """
    held_bytes = sum(os.path.getsize(file) for file in files)
    require_size(path, held_bytes)
    if promised_bytes > min(held_bytes * ratio, MAX_CHECKPOINT_BYTES):
        raise DataError(
            f"{path} promises values of {promised_bytes:,} bytes, but holds {held_bytes:,}; it is "
            "damaged"
        )


def files_of(prefix: str) -> tuple[list[str], int]:
    """Return the files that hold the values, and how many times larger the values may be."""
    if is_single_file(prefix):
        return [prefix], MAX_UNPACKED_RATIO
    return sorted(glob.glob(f"{glob.escape(prefix)}{DATA}*")), 1


def is_single_file(path: str) -> bool:
    """Return whether a file is a checkpoint of format V1."""
    if path.endswith(INDEX) or not os.path.isfile(path):
        return False
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - len(_TABLE_END)))
        return stream.read() == _TABLE_END


def prefixes_in(folder: str) -> list[str]:
    """Return the prefixes of all checkpoints below a folder, of either format.

    The variables of a SavedModel do not count: they do not have slim's names.
    """
    prefixes = []
    for parent, folders, names in os.walk(folder):
        if "saved_model.pb" in names:
            folders.clear()
        paths = [os.path.join(parent, name) for name in sorted(names)]
        prefixes += [path.removesuffix(INDEX) for path in paths if path.endswith(INDEX)]
        prefixes += [path for path in paths if is_single_file(path)]
    return prefixes


def data_files(folder: str) -> Iterator[str]:
    """Yield the files below a folder that hold weights, in the order of their paths."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if DATA in name or is_single_file(path):
                yield path
