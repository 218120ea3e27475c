"""The digest of the weights from which a run started."""

from __future__ import annotations

import os

from preprocessing import storage


def checkpoint_digest(path: str) -> str:
    """Return the SHA-256 of a slim checkpoint's content: a prefix, a folder or a `.tgz`."""
    for file in (f"{path}.data-00000-of-00001", path):
        if os.path.isfile(file):
            return storage.digest_of_file(file)
    names = [name for name in storage.list_names(path) if ".data-" in name]
    return storage.digest_of([storage.digest_of_file(storage.join(path, name)) for name in names])
