"""Writing: files and folders that appear complete or not at all.

A local file is written under a temporary name in the same folder, synced and renamed. An object
in a bucket becomes visible only when its upload ends.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from preprocessing.storage.checksums import crc32c
from preprocessing.storage.listing import exists
from preprocessing.storage.paths import (
    BLOCK_BYTES,
    PARTIAL,
    filesystem_of,
    is_remote,
    retry_if_remote,
)
from preprocessing.storage.reading import read_bytes
from preprocessing.storage.temporary import temporary_folder


@contextmanager
def open_write(path: str) -> Iterator[IO[bytes]]:
    """Open `path` for writing so that no reader ever sees a part of it.

    When the block raises or the process dies, `path` is as it was before. An object is
    collected in a temporary file first, so that a failed upload can start from the beginning.
    """
    if is_remote(path):
        with temporary_folder("upload") as folder:
            collected = os.path.join(folder, "content")
            with open(collected, "wb") as stream:
                yield stream
            retry_if_remote(path, lambda: _upload(collected, path))
        return
    partial = os.path.join(
        os.path.dirname(path), f".{os.path.basename(path)}{PARTIAL}{uuid.uuid4().hex[:8]}"
    )
    try:
        with open(partial, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:
        if os.path.exists(partial):
            os.unlink(partial)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path  # the system reports a full disk without saying where
        raise


def _upload(local_path: str, path: str) -> None:
    """Upload a file as one object, which replaces the old one at the end, and compare them."""
    filesystem, name = filesystem_of(path)
    filesystem.put_file(local_path, name)
    stored = filesystem.info(name)
    if int(stored["size"]) != os.path.getsize(local_path) or (
        "crc32c" in stored and stored["crc32c"] != _crc32c_of_file(local_path)
    ):
        raise OSError(errno.EIO, "the object differs from what was sent", path)


def _crc32c_of_file(path: str) -> str:
    with open(path, "rb") as stream:
        return crc32c(stream)


def write_bytes(path: str, content: bytes) -> None:
    """Write a whole file atomically."""
    with open_write(path) as stream:
        stream.write(content)


def update_bytes(path: str, content: bytes) -> None:
    """Write a whole file atomically unless it holds `content` already."""
    if not exists(path) or read_bytes(path) != content:
        make_folder(posixpath.dirname(path) or ".")
        write_bytes(path, content)


def move_into(source: str, path: str) -> None:
    """Give the local file `source` the name `path`: renamed on the same disk, or uploaded."""
    if is_remote(path):
        with open(source, "rb") as stream, open_write(path) as target:
            shutil.copyfileobj(stream, target, BLOCK_BYTES)
        os.unlink(source)
        return
    with open(source, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(source, path)


def make_folder(folder: str) -> None:
    """Create a folder and its parents; buckets need none."""
    if not is_remote(folder):
        os.makedirs(folder, exist_ok=True)


def remove(path: str) -> None:
    """Remove a file or a whole folder if it exists."""
    filesystem, name = filesystem_of(path)

    def remove_all() -> None:
        try:
            if filesystem.exists(name):
                filesystem.rm(name, recursive=True)
        except FileNotFoundError:
            pass  # an earlier attempt removed it and lost the answer

    retry_if_remote(path, remove_all)


def publish_folder(local_folder: str, folder: str) -> None:
    """Replace `folder` by the files of a local folder, which is moved when that is possible."""
    remove(folder)
    if not is_remote(folder):
        shutil.move(local_folder, folder)
        return
    filesystem, name = filesystem_of(folder)
    files = sorted(os.listdir(local_folder))
    retry_if_remote(
        folder,
        lambda: filesystem.put(
            [os.path.join(local_folder, file) for file in files],
            [posixpath.join(name, file) for file in files],
        ),
    )
