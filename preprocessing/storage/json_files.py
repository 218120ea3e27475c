"""JSON files: readable, and the same bytes for the same value."""

from __future__ import annotations

import json
import os
from typing import Any

from preprocessing.errors import DataError
from preprocessing.storage.contracts import MAX_INTEGER
from preprocessing.storage.downloads import WEB, download
from preprocessing.storage.reading import read_bytes
from preprocessing.storage.temporary import temporary_folder
from preprocessing.storage.writing import write_bytes

MAX_JSON_BYTES = 64 << 20  # ten times the curves of the longest run


def write_json(path: str, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return `value` as readable JSON; equal values have equal bytes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(path: str, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read JSON that `write_json` wrote.

    Args:
        path: A local path or a URL.
        max_bytes: No more is read.

    Raises:
        DataError: The file is not JSON, or there is more than that.
    """
    if path.startswith(WEB):
        with temporary_folder("json") as folder:
            copy = os.path.join(folder, "content")
            download(path, copy, max_bytes=max_bytes)
            return parse_json(read_bytes(copy), path)
    content = read_bytes(path, max_bytes=max_bytes + 1)
    if len(content) > max_bytes:
        raise DataError(f"{path} has more than {max_bytes:,} bytes; it is not one of this program")
    return parse_json(content, path)


def parse_json(content: bytes, name: str) -> Any:
    """Parse JSON that was read from `name`.

    Raises:
        DataError: The content is not JSON, or holds what no file of this program does: a whole
            number of more than 64 bits, or half a character.
    """
    try:
        value = json.loads(content, parse_int=_integer)
        if b"\\ud" in content.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON ({error}); delete it to make it again") from error


def _integer(digits: str) -> int:
    value = int(digits)
    if abs(value) > MAX_INTEGER:
        raise ValueError(f"{digits[:20]}... has more than 64 bits")
    return value
