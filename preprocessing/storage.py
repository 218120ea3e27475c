"""Files that appear complete or not at all, on local disk or in a bucket.

Every path a user can pass is a string: local, or a URL that fsspec knows
(`gs://` through gcsfs). Locally a file is written beside its final name, synced
and renamed; an object in a bucket becomes visible only when its upload ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec

from preprocessing.errors import DataError

PARTIAL = ".partial-"  # in the name of everything that is not complete


def is_remote(path: str) -> bool:
    """Whether `path` is a URL rather than a path of this machine."""
    return "://" in path


def join(root: str, *parts: str) -> str:
    """`root/part/...` for local paths and URLs alike."""
    return posixpath.join(root, *parts)


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, name = fsspec.core.url_to_fs(path)
    return bool(filesystem.exists(name))


def list_names(folder: str) -> list[str]:
    """Sorted names in a folder; empty when the folder is missing."""
    filesystem, name = fsspec.core.url_to_fs(folder)
    if not filesystem.isdir(name):
        return []
    return sorted(
        posixpath.basename(path.rstrip("/")) for path in filesystem.ls(name, detail=False)
    )


def size_bytes(path: str) -> int:
    """Size of a file."""
    filesystem, name = fsspec.core.url_to_fs(path)
    return int(filesystem.size(name))


def make_folder(folder: str) -> None:
    """Create a folder and its parents; buckets need none."""
    if not is_remote(folder):
        os.makedirs(folder, exist_ok=True)


def remove(path: str) -> None:
    """Remove a file or a whole folder if it is there."""
    filesystem, name = fsspec.core.url_to_fs(path)
    if filesystem.exists(name):
        filesystem.rm(name, recursive=True)


def open_read(path: str) -> IO[bytes]:
    """Open for reading bytes, seekable."""
    filesystem, name = fsspec.core.url_to_fs(path)
    stream: IO[bytes] = filesystem.open(name, "rb")
    return stream


def read_bytes(path: str) -> bytes:
    """The whole file."""
    with open_read(path) as stream:
        return stream.read()


@contextmanager
def open_write(path: str) -> Iterator[IO[bytes]]:
    """Write `path` so that no reader ever sees a part of it.

    When the block raises or the process dies, `path` is as it was before.
    """
    if is_remote(path):
        filesystem, name = fsspec.core.url_to_fs(path)
        with filesystem.transaction, filesystem.open(name, "wb") as stream:
            yield stream
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
            error.filename = path  # a full disk is reported without saying where
        raise


def move_into(source: str, path: str) -> None:
    """Give the local file `source` the name `path`: renamed on the same disk, or uploaded."""
    if is_remote(path):
        with open(source, "rb") as stream, open_write(path) as target:
            shutil.copyfileobj(stream, target, 1 << 20)
        os.unlink(source)
        return
    with open(source, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(source, path)


def write_bytes(path: str, content: bytes) -> None:
    """Write a whole file atomically."""
    with open_write(path) as stream:
        stream.write(content)


def write_json(path: str, value: Any) -> None:
    """Write `value` as readable JSON, atomically, the same bytes for the same value."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: str) -> Any:
    """Read JSON that `write_json` wrote.

    Raises:
        DataError: The file is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); delete it to make it anew") from error


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def digest_of_file(path: str) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open_read(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
