"""Single records of a finished shard, read back by where they start."""

from __future__ import annotations

import struct
from typing import IO, Any

from preprocessing import schema, tfrecord
from preprocessing.errors import DataError


def read_at(stream: IO[bytes], offset: int, name: str) -> dict[str, list[Any]]:
    """The features of the record that starts at byte `offset`.

    Raises:
        DataError: There is no whole record at that place.
    """
    stream.seek(offset)
    header = stream.read(tfrecord.HEADER_BYTES)
    length = struct.unpack("<Q", header[:8])[0] if len(header) == tfrecord.HEADER_BYTES else -1
    payload = stream.read(length) if 0 < length <= schema.MAX_RECORD_BYTES else b""
    if len(payload) != length:
        raise DataError(f"{name} has no whole record at byte {offset}; write the shard anew")
    return tfrecord.parse(payload)


def key_of(split: str, features: dict[str, list[Any]]) -> str:
    """The key that the image had in its source: `split/class/filename`."""
    synset, filename = (
        features[name][0].decode(errors="replace") for name in (schema.SYNSET, schema.FILENAME)
    )
    return f"{split}/{synset}/{filename}"
