"""A file appears completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing import storage
from preprocessing.errors import DataError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.write_bytes(str(path), b"old")

    def fail() -> None:
        with storage.open_write(str(path)) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "value.json")
    storage.write_json(path, {"a": [1, "é"]})
    assert storage.read_json(path) == {"a": [1, "é"]}
    Path(path).write_text('{"a": [1')
    with pytest.raises(DataError, match=r"value\.json is not JSON"):
        storage.read_json(path)
