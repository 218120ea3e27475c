"""Listings: which files and folders exist, and how large they are."""

from __future__ import annotations

import os
import posixpath
from typing import Any, NamedTuple

from preprocessing.storage.paths import filesystem_of, is_remote, retry_if_remote


class Entry(NamedTuple):
    """A file, or a folder (of size 0), in a folder.

    Attributes:
        version: Of a file, a text that is another one after any change: of a local file its
            times and inode, of an object its generation or the like; empty where unknown.
    """

    name: str
    size: int
    is_folder: bool
    version: str = ""


# Keys under which filesystems of fsspec tell one version of an object from another.
VERSION_KEYS = ("generation", "etag", "ETag", "mtime", "LastModified", "updated", "created")


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
            _remote_version(remote),
        )
        for remote in retry_if_remote(folder, list_remote)
        if remote["name"].strip("/") != name.strip("/")  # the folder's own placeholder
    )


def _local_entry(scanned: os.DirEntry[str]) -> Entry | None:
    """Return None for a file that vanished after it was listed; raise for a dangling link."""
    try:
        if scanned.is_dir():
            return Entry(scanned.name, 0, True)
        status = scanned.stat()
        return Entry(scanned.name, status.st_size, False, _local_version(status))
    except FileNotFoundError:
        if scanned.is_symlink():
            raise
        return None


def _local_version(status: os.stat_result) -> str:
    """Return the version of a local file; its change time differs even if a tool set the other."""
    return f"{status.st_mtime_ns:x} {status.st_ctime_ns:x} {status.st_ino:x}"


def _remote_version(remote: dict[str, Any]) -> str:
    return next((str(remote[key]) for key in VERSION_KEYS if remote.get(key)), "")


def version_of(path: str) -> str:
    """Return the version of a file, as in its `Entry`."""
    if not is_remote(path):
        return _local_version(os.stat(path))
    filesystem, name = filesystem_of(path)
    return _remote_version(retry_if_remote(path, lambda: filesystem.info(name)))


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
