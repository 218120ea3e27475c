"""JSON files: readable, and the same bytes for the same value."""

from __future__ import annotations

import json
from typing import Any

from preprocessing.errors import DataError
from preprocessing.storage.reading import read_bytes
from preprocessing.storage.writing import write_bytes


def write_json(path: str, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return `value` as readable JSON; equal values have equal bytes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(path: str) -> Any:
    """Read JSON that `write_json` wrote.

    Raises:
        DataError: The file is not JSON.
    """
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, name: str) -> Any:
    """Parse JSON that was read from `name`.

    Raises:
        DataError: The content is not JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON ({error}); delete it to make it again") from error
