"""Files that appear complete or not at all, on local disk or in a bucket.

Every path a user can pass is a string: local, or a URL that fsspec knows
(`gs://` through gcsfs). Locally a file is written beside its final name, synced
and renamed; an object in a bucket becomes visible only when its upload ends.
Requests to a bucket are repeated, see `preprocessing.storage.retries`.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, TypeVar

import google_crc32c

from preprocessing.errors import DataError, UsageError
from preprocessing.storage import retries

PARTIAL = ".partial-"  # in the name of everything that is not complete
BLOCK_BYTES = 1 << 20

Result = TypeVar("Result")


def is_remote(path: str) -> bool:
    """Whether `path` is a URL rather than a path of this machine."""
    return "://" in path


def join(root: str, *parts: str) -> str:
    """`root/part/...` for local paths and URLs alike."""
    return posixpath.join(root, *parts)


def _filesystem(path: str) -> tuple[Any, str]:
    """The fsspec filesystem of `path`, without its cache of listings: others write there too."""
    import fsspec  # late, because it takes longer than the rest of `mobilenet --help`

    filesystem: tuple[Any, str] = fsspec.core.url_to_fs(path, use_listings_cache=False)
    return filesystem


def _persistently(path: str, operation: Callable[[], Result]) -> Result:
    """Run an idempotent operation; on URLs repeat what the network or the service broke."""
    return retries.persistently(path, operation) if is_remote(path) else operation()


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, name = _filesystem(path)
    return _persistently(path, lambda: bool(filesystem.exists(name)))


class Entry(NamedTuple):
    """A file, or a folder (of size 0), in a folder."""

    name: str
    size: int
    is_folder: bool


def list_entries(folder: str) -> list[Entry]:
    """What is in a folder, in order of names, in one listing; links are followed.

    Empty when the folder is missing.

    Raises:
        FileNotFoundError: A link leads to nothing.
    """
    if not is_remote(folder):
        try:
            scan = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        with scan:
            return sorted(entry for each in scan if (entry := _local_entry(each)))
    filesystem, name = _filesystem(folder)

    def listing() -> list[dict[str, Any]]:
        try:
            listed: list[dict[str, Any]] = filesystem.ls(name, detail=True)
        except FileNotFoundError:
            return []
        return listed

    return sorted(
        Entry(
            posixpath.basename(entry["name"].rstrip("/")),
            int(entry["size"] or 0),
            entry["type"] == "directory",
        )
        for entry in _persistently(folder, listing)
        if entry["name"].strip("/") != name.strip("/")  # the folder's own placeholder
    )


def _local_entry(each: os.DirEntry[str]) -> Entry | None:
    """None for what vanished after it was listed; a link to nothing is an error."""
    try:
        return Entry(each.name, 0 if each.is_dir() else each.stat().st_size, each.is_dir())
    except FileNotFoundError:
        if each.is_symlink():
            raise
        return None


def list_sizes(folder: str) -> dict[str, int]:
    """Names in a folder in order, with their sizes in bytes (0 for folders)."""
    return {entry.name: entry.size for entry in list_entries(folder)}


def list_names(folder: str) -> list[str]:
    """Sorted names in a folder; empty when the folder is missing."""
    return list(list_sizes(folder))


def size_bytes(path: str) -> int:
    """Size of a file."""
    filesystem, name = _filesystem(path)
    return _persistently(path, lambda: int(filesystem.size(name)))


def make_folder(folder: str) -> None:
    """Create a folder and its parents; buckets need none."""
    if not is_remote(folder):
        os.makedirs(folder, exist_ok=True)


def remove(path: str) -> None:
    """Remove a file or a whole folder if it is there."""
    filesystem, name = _filesystem(path)

    def remove_all() -> None:
        try:
            if filesystem.exists(name):
                filesystem.rm(name, recursive=True)
        except FileNotFoundError:
            pass  # an earlier try went further than its answer

    _persistently(path, remove_all)


def open_read(path: str, *, ahead: bool = True) -> IO[bytes]:
    """Open for reading bytes, seekable.

    Args:
        path: The file.
        ahead: Fetch megabytes ahead of each read from a bucket; no for a few far apart.
    """
    filesystem, name = _filesystem(path)
    options = {} if ahead or not is_remote(path) else {"cache_type": "none"}
    return _persistently(path, lambda: filesystem.open(name, "rb", **options))


def read_bytes(path: str) -> bytes:
    """The whole file, as it is at one moment: in one request, not first its size."""
    filesystem, name = _filesystem(path)
    content: bytes = _persistently(path, lambda: filesystem.cat_file(name))
    return content


def read_ranges(ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Parts of files of one bucket, fetched at the same time.

    Args:
        ranges: Path, offset and size in bytes of each part.

    Returns:
        The parts in that order; shorter where a file ends inside one.
    """
    if not ranges:
        return []
    filesystem, _ = _filesystem(ranges[0][0])
    parts: dict[int, bytes] = {i: b"" for i, (_, _, size) in enumerate(ranges) if not size}

    def fetch_missing() -> None:
        missing = [index for index in range(len(ranges)) if index not in parts]
        if not missing:
            return
        fetched = filesystem.cat_ranges(
            [_filesystem(ranges[index][0])[1] for index in missing],
            [ranges[index][1] for index in missing],
            [ranges[index][1] + ranges[index][2] for index in missing],
            on_error="return",
        )
        failure: BaseException | None = None
        for index, part in zip(missing, fetched, strict=True):
            if not isinstance(part, BaseException):
                parts[index] = part
            elif failure is None or not retries.is_transient(part):
                failure = part
        if failure:
            raise failure

    _persistently(ranges[0][0], fetch_missing)
    return [parts[index] for index in range(len(ranges))]


@contextmanager
def open_write(path: str) -> Iterator[IO[bytes]]:
    """Write `path` so that no reader ever sees a part of it.

    When the block raises or the process dies, `path` is as it was before. An object is
    collected in a temporary file first, so that a failed upload can start anew.
    """
    if is_remote(path):
        with tempfile.NamedTemporaryFile(prefix="mobilenet-upload-") as collected:
            yield collected
            collected.flush()
            _persistently(path, lambda: _upload(collected.name, path))
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


def _upload(local_path: str, path: str) -> None:
    """Upload a file as one object, which replaces the old one at the end, and compare."""
    filesystem, name = _filesystem(path)
    filesystem.put_file(local_path, name)
    there = filesystem.info(name)
    if int(there["size"]) != os.path.getsize(local_path) or (
        "crc32c" in there and there["crc32c"] != _crc32c_of_file(local_path)
    ):
        raise OSError(errno.EIO, "the object differs from what was sent", path)


def _crc32c_of_file(path: str) -> str:
    with open(path, "rb") as stream:
        return crc32c(stream)


def crc32c(stream: IO[bytes]) -> str:
    """CRC-32C of a whole stream as Google's storage writes it: base64, big-endian."""
    stream.seek(0)
    checksum = google_crc32c.Checksum()
    while block := stream.read(BLOCK_BYTES):
        checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


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


def stored_crc32c(path: str) -> str:
    """`crc32c` of a file: what its store says, or read back where it says nothing."""
    filesystem, name = _filesystem(path)
    said: str | None = _persistently(path, lambda: filesystem.info(name)).get("crc32c")
    if said:
        return said
    with open_read(path) as stream:
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


def write_json(path: str, value: Any) -> None:
    """Write `value` as readable JSON, atomically, the same bytes for the same value."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """`value` as readable JSON, the same bytes for the same value."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(path: str) -> Any:
    """Read JSON that `write_json` wrote.

    Raises:
        DataError: The file is not JSON.
    """
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, name: str) -> Any:
    """Parse JSON.

    Raises:
        DataError: It is not JSON; `name` says what was read.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON ({error}); delete it to make it anew") from error


def publish_folder(local_folder: str, folder: str) -> None:
    """Replace `folder` by the files of a local folder, which is moved when it can be."""
    remove(folder)
    if not is_remote(folder):
        shutil.move(local_folder, folder)
        return
    filesystem, name = _filesystem(folder)
    files = sorted(os.listdir(local_folder))
    _persistently(
        folder,
        lambda: filesystem.put(
            [os.path.join(local_folder, file) for file in files],
            [posixpath.join(name, file) for file in files],
        ),
    )


@contextmanager
def exclusive(folder: str) -> Iterator[None]:
    """Hold a local folder against others who do the same while the block runs; makes it.

    A process that dies lets go. Buckets and filesystems without locks are not held.

    Raises:
        UsageError: Another process has it.
    """
    if is_remote(folder):
        yield
        return
    make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is writing {folder}; wait for it or stop it"
            ) from None
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
        yield
    finally:
        os.close(descriptor)


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def digest_of_file(path: str) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open_read(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
