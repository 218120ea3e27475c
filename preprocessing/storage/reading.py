"""Reading: whole files, streams, and many parts of files in one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from preprocessing.storage import retries
from preprocessing.storage.paths import filesystem_of, is_remote, retry_if_remote


def open_read(path: str, *, ahead: bool = True) -> IO[bytes]:
    """Open a file for reading bytes; the stream is seekable.

    Args:
        path: The file.
        ahead: Fetch megabytes ahead of each read from a bucket. False suits a few reads that
            lie far apart.
    """
    filesystem, name = filesystem_of(path)
    options = {} if ahead or not is_remote(path) else {"cache_type": "none"}
    return retry_if_remote(path, lambda: filesystem.open(name, "rb", **options))


def read_bytes(path: str, *, max_bytes: int | None = None) -> bytes:
    """Return the file as it is at one moment: one request, without asking its size first.

    Args:
        path: The file.
        max_bytes: The number of bytes from its start; None for the whole file.
    """
    filesystem, name = filesystem_of(path)
    part = {} if max_bytes is None else {"start": 0, "end": max_bytes}
    content: bytes = retry_if_remote(path, lambda: filesystem.cat_file(name, **part))
    return content


def read_ranges(ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Fetch parts of files of one bucket at the same time.

    Args:
        ranges: Path, offset in bytes and size in bytes of each part.

    Returns:
        The parts in that order. A part is shorter where its file ends inside it.
    """
    if not ranges:
        return []
    filesystem, _ = filesystem_of(ranges[0][0])
    parts: dict[int, bytes] = {i: b"" for i, (_, _, size) in enumerate(ranges) if not size}

    def fetch_missing() -> None:
        missing = [index for index in range(len(ranges)) if index not in parts]
        if not missing:
            return
        fetched = filesystem.cat_ranges(
            [filesystem_of(ranges[index][0])[1] for index in missing],
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

    retry_if_remote(ranges[0][0], fetch_missing)
    return [parts[index] for index in range(len(ranges))]
