"""Checkpoints in buckets, copied to this machine: TensorFlow and HDF5 read local files."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

from preprocessing import storage
from preprocessing.errors import UsageError
from training.weights import checkpoint_format


@contextmanager
def at_hand(path: str) -> Iterator[str]:
    """Yield a checkpoint as a local path: itself, or a temporary copy of one in a bucket.

    Args:
        path: A checkpoint's prefix, its folder, a `.tgz` or a `.h5`.

    Raises:
        UsageError: Nothing in the bucket has this name.
    """
    if not storage.is_remote(path):
        yield path
        return
    with storage.temporary_folder("weights") as copies:
        parent, name = posixpath.split(path.rstrip("/"))
        entries = [
            entry
            for entry in storage.list_entries(parent)
            if entry.name == name or entry.name.startswith(f"{name}.")
        ]
        if not entries:
            raise UsageError(
                f"{path} does not exist; pass a checkpoint's prefix (the part before .index), its "
                "folder or the published .tgz"
            )
        for entry in entries:
            path_of_entry = storage.join(parent, entry.name)
            sizes = storage.list_files(path_of_entry).values() if entry.is_folder else [entry.size]
            checkpoint_format.require_size(path_of_entry, sum(sizes))
        for entry in entries:
            source, copy = storage.join(parent, entry.name), os.path.join(copies, entry.name)
            if not entry.is_folder:
                storage.copy_file(source, copy)
            elif entry.name == name:
                storage.download_folder(source, copy)
        yield os.path.join(copies, name)
