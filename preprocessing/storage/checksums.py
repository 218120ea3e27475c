"""Checksums and digests of files, streams and values."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import IO, Any

import google_crc32c

from preprocessing.storage.paths import BLOCK_BYTES, filesystem_of, retry_if_remote
from preprocessing.storage.reading import open_read


def crc32c(stream: IO[bytes]) -> str:
    """Return the CRC-32C of a whole stream as Google's storage writes it: base64, big-endian."""
    stream.seek(0)
    checksum = google_crc32c.Checksum()
    while block := stream.read(BLOCK_BYTES):
        checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


def stored_crc32c(path: str) -> str:
    """Return `crc32c` of a file: from its store, or computed where the store does not know it."""
    filesystem, name = filesystem_of(path)
    known: str | None = retry_if_remote(path, lambda: filesystem.info(name)).get("crc32c")
    if known:
        return known
    with open_read(path) as stream:
        return crc32c(stream)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def digest_of_file(path: str) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open_read(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
