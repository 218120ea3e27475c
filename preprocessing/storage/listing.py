"""Listings: which files and folders exist, and how large they are."""

from __future__ import annotations

import os
import posixpath
from typing import Any, NamedTuple

from preprocessing.storage.paths import filesystem_of, is_remote, retry_if_remote


class Entry(NamedTuple):
    """A file, or a folder (of size 0), in a folder."""

    name: str
    size: int
    is_folder: bool


def exists(path: str) -> bool:
    """Return whether a file or folder exists at `path`."""
    filesystem, name = filesystem_of(path)
    return retry_if_remote(path, lambda: bool(filesystem.exists(name)))


def list_entries(folder: str) -> list[Entry]:
    """Return the entries of a folder, ordered by name, from one listing; links are followed.

    A missing folder has no entries.

    Raises:
        FileNotFoundError: A link leads to nothing.
    """
    if not is_remote(folder):
        try:
            scan = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        with scan:
            return sorted(entry for scanned in scan if (entry := _local_entry(scanned)))
    filesystem, name = filesystem_of(folder)

    def list_remote() -> list[dict[str, Any]]:
        try:
            listed: list[dict[str, Any]] = filesystem.ls(name, detail=True)
        except FileNotFoundError:
            return []
        return listed

    return sorted(
        Entry(
            posixpath.basename(remote["name"].rstrip("/")),
            int(remote["size"] or 0),
            remote["type"] == "directory",
        )
        for remote in retry_if_remote(folder, list_remote)
        if remote["name"].strip("/") != name.strip("/")  # the folder's own placeholder
    )


def _local_entry(scanned: os.DirEntry[str]) -> Entry | None:
    """Return None for a file that vanished after it was listed; raise for a dangling link."""
    try:
        is_folder = scanned.is_dir()
        return Entry(scanned.name, 0 if is_folder else scanned.stat().st_size, is_folder)
    except FileNotFoundError:
        if scanned.is_symlink():
            raise
        return None


def list_sizes(folder: str) -> dict[str, int]:
    """Return the names in a folder, in order, with their sizes in bytes (0 for folders)."""
    return {entry.name: entry.size for entry in list_entries(folder)}


def list_names(folder: str) -> list[str]:
    """Return the sorted names in a folder; a missing folder has none."""
    return list(list_sizes(folder))


def size_bytes(path: str) -> int:
    """Return the size of a file in bytes."""
    filesystem, name = filesystem_of(path)
    return retry_if_remote(path, lambda: int(filesystem.size(name)))
