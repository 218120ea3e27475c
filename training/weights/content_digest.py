"""The digest of the weights from which a run started."""

from __future__ import annotations

import glob
import os

from preprocessing import storage
from preprocessing.errors import UsageError
from training.weights.checkpoint_format import data_files


def checkpoint_digest(path: str) -> str:
    """Return the SHA-256 of the weights of a checkpoint: a prefix, a folder, a `.tgz` or a `.h5`.

    Raises:
        UsageError: The path holds no weights.
    """
    if os.path.isfile(path):
        return storage.digest_of_file(path)
    parts = sorted(glob.glob(f"{glob.escape(path)}.data-*"))
    if len(parts) == 1:
        return storage.digest_of_file(parts[0])
    if not parts:
        parts = list(data_files(path))
    if not parts:
        raise UsageError(f"{path} holds no weights; pass a checkpoint's prefix, folder or archive")
    return storage.digest_of([storage.digest_of_file(part) for part in parts])
