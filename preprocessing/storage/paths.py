"""Paths: strings that name a local file or a URL that fsspec knows (`gs://` through gcsfs)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any, TypeVar

from preprocessing.storage import connections, retries

PARTIAL = ".partial-"  # part of the name of everything that is not complete
BLOCK_BYTES = 1 << 20

Result = TypeVar("Result")


def is_remote(path: str) -> bool:
    """Return whether `path` is a URL rather than a path of this machine."""
    return "://" in path


def join(root: str, *parts: str) -> str:
    """Return `root/part/...`, for local paths and URLs alike."""
    return posixpath.join(root, *parts)


def filesystem_of(path: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of `path` and the name of `path` in it.

    The filesystem keeps no cache of listings, because others write to the same place.

    Raises:
        RetryError: The server cannot be reached at all.
        UsageError: The credentials on this machine are not valid.
    """
    import fsspec  # imported late: it takes longer than the rest of `mobilenet --help`

    if not is_remote(path):  # in a local path, `::` is no chain of filesystems
        local = fsspec.filesystem("file")
        return local, local._strip_protocol(path)
    filesystem: tuple[Any, str] = fsspec.core.url_to_fs(
        path, use_listings_cache=False, **connections.options_of(path)
    )
    return filesystem


def retry_if_remote(path: str, operation: Callable[[], Result]) -> Result:
    """Run an idempotent operation on `path`, and repeat it on a URL when the network failed."""
    return retries.retry(path, operation) if is_remote(path) else operation()
