"""Files that are not read: those that operating systems put next to images, and strangers."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Container

from preprocessing import storage

NAMES = frozenset(("thumbs.db", "desktop.ini"))
FOLDER = "__MACOSX"
DESCRIPTION = f"hidden files (._*, .DS_Store), Thumbs.db, desktop.ini and {FOLDER}"


def is_ignored(path: str) -> bool:
    """Return whether a file, by its path in a folder or tar, is none of the user's images."""
    name = posixpath.basename(path.rstrip("/"))
    return name.startswith(".") or name.lower() in NAMES or FOLDER in path.split("/")


class IgnoredFiles:
    """The number of files that a listing has skipped."""

    def __init__(self) -> None:
        self.count = 0
        self._counting = threading.Lock()  # several classes may be listed at the same time

    def keeps(self, path: str) -> bool:
        """Return whether a path is to be read; count it if not."""
        if not is_ignored(path):
            return True
        with self._counting:
            self.count += 1
        return False


def unread_in(folder: str, read: Container[str]) -> tuple[str, ...]:
    """Return the names in the folder of a source that its layout does not read.

    Args:
        folder: The source.
        read: Names that the layout reads.
    """
    return tuple(
        name for name in storage.list_names(folder) if name not in read and not is_ignored(name)
    )
