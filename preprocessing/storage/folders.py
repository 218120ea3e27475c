"""Whole folders: listed with everything below them, and copied between a disk and a bucket."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from preprocessing.storage.listing import exists, list_entries
from preprocessing.storage.paths import BLOCK_BYTES, PARTIAL, join
from preprocessing.storage.reading import open_read
from preprocessing.storage.writing import open_write, remove, write_bytes

REQUESTS = 8  # at the same time
MARK = f"{PARTIAL}upload"  # in a folder that is being written


def list_files(folder: str) -> dict[str, int]:
    """Return the complete files below a folder, with their sizes in bytes.

    Their paths are relative to it and in order. A missing folder has none.
    """
    sizes: dict[str, int] = {}
    for entry in list_entries(folder):
        if PARTIAL in entry.name:
            continue
        if entry.is_folder:
            below = list_files(join(folder, entry.name))
            sizes |= {posixpath.join(entry.name, name): size for name, size in below.items()}
        else:
            sizes[entry.name] = entry.size
    return dict(sorted(sizes.items()))


def download_folder(folder: str, local_folder: str) -> None:
    """Copy all files of a folder to a local one, which is created."""
    os.makedirs(local_folder, exist_ok=True)

    def download(name: str) -> None:
        copy_file(join(folder, name), os.path.join(local_folder, name))

    _at_once(download, list(list_files(folder)))


def upload_folder(local_folder: str, folder: str, *, last: str) -> None:
    """Replace a folder in a bucket by the files of a local one.

    Args:
        local_folder: The local folder.
        folder: The folder in the bucket.
        last: The file that makes the folder complete: it is removed first and written last, so
            that no reader takes a part for the whole.
    """
    names = list(list_files(local_folder))
    write_bytes(join(folder, MARK), b"")
    remove(join(folder, last))

    def upload(name: str) -> None:
        upload_file(os.path.join(local_folder, name), join(folder, name))

    _at_once(lambda name: remove(join(folder, name)), sorted({*list_files(folder)} - {*names}))
    _at_once(upload, [name for name in names if name != last])
    upload(last)
    remove(join(folder, MARK))


def is_unfinished_upload(folder: str) -> bool:
    """Return whether an `upload_folder` to `folder` has begun and not ended."""
    return exists(join(folder, MARK))


def copy_file(path: str, local_path: str) -> None:
    """Copy a file to a local path, whose folder is created."""
    os.makedirs(os.path.dirname(local_path), exist_ok=True)
    with open_read(path) as source, open(local_path, "wb") as target:
        shutil.copyfileobj(source, target, BLOCK_BYTES)


def upload_file(local_path: str, path: str) -> None:
    """Copy a local file to a path, where it appears complete."""
    with open(local_path, "rb") as source, open_write(path) as target:
        shutil.copyfileobj(source, target, BLOCK_BYTES)


def _at_once(action: Callable[[str], None], names: list[str]) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        for _ in pool.map(action, names):
            pass
