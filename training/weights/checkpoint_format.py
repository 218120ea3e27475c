"""The files of TensorFlow checkpoints, told by their content. TensorFlow is not imported.

Format V2 is `x.index` with `x.data-00000-of-00001` and more. Format V1, which TensorFlow wrote
before version 0.12, is a single file `x`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

INDEX, DATA = ".index", ".data-"
# A table of TensorFlow ends like this (tensorflow/core/lib/io/format.h, kTableMagicNumber).
_TABLE_END = bytes.fromhex("57fb808b247547db")


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
