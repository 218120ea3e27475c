"""A file that is replaced only if nobody replaced it before: compare and swap."""

from __future__ import annotations

import contextlib
import os
import uuid

from preprocessing.storage.listing import version_of
from preprocessing.storage.paths import PARTIAL, filesystem_of, is_remote, retry_if_remote
from preprocessing.storage.reading import read_bytes
from preprocessing.storage.writing import write_bytes

ABSENT = ""  # the version of a file that does not exist


def read_versioned(path: str) -> tuple[bytes, str]:
    """Return the content of a small file and the version for `swap_bytes`.

    A file that is missing is empty and has the version `ABSENT`.
    """
    try:
        version = version_of(path)  # first, so that a change in between fails the swap
        return read_bytes(path), version
    except FileNotFoundError:
        return b"", ABSENT


def swap_bytes(path: str, content: bytes, version: str) -> bool:
    """Write a whole file if it still has `version`; return whether it was written.

    On Google's storage the comparison and the write are one operation. A local file is created
    in one operation, but replaced in two; so are objects of other stores.

    Args:
        path: The file; its folder exists.
        content: The content, which no other writer has.
        version: The version that was read, `ABSENT` for none.
    """
    if not is_remote(path):
        return _swap_local(path, content, version)
    filesystem, name = filesystem_of(path)
    if "gs" not in filesystem.protocol:
        if read_versioned(path)[1] != version:
            return False
        write_bytes(path, content)
        return True
    bucket, _, key = name.partition("/")

    def upload() -> bool:
        try:
            filesystem.call(
                "POST",
                f"{filesystem._location}/upload/storage/v1/b/{{}}/o",
                bucket,
                uploadType="media",
                name=key,
                ifGenerationMatch=version or "0",
                data=content,
            )
        except FileExistsError:  # the answer of an earlier attempt may have been lost
            return read_bytes(path) == content
        return True

    return retry_if_remote(path, upload)


def _swap_local(path: str, content: bytes, version: str) -> bool:
    if version == ABSENT:
        complete = f"{path}{PARTIAL}{uuid.uuid4().hex[:8]}"
        write_bytes(complete, content)
        try:
            os.link(complete, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(complete)
        return True
    with contextlib.suppress(FileNotFoundError):
        if version_of(path) == version:
            write_bytes(path, content)
            return True
    return False
