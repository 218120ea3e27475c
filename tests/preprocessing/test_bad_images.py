"""One bad image is one reject with its key, and no source is read in part without a word."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from preprocessing.errors import DataError, UsageError
from preprocessing.records.schema import SPLITS
from preprocessing.sources.registry import find_source
from tests.conftest import ingest


def encoded(size: tuple[int, int], kind: str) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", size, "red").save(packed, kind)
    return packed.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder per class with two classes of two images each."""
    folder = tmp_path / "source"
    for split in SPLITS:
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                content = encoded((20 + number, 30), "JPEG")
                (folder / split / name / f"{number}.jpg").write_bytes(content)
    return folder


def test_each_bad_file_is_one_reject(source: Path, tmp_path: Path) -> None:
    cat = source / "train" / "cat"
    (cat / "wide.png").write_bytes(encoded((65_501, 1), "PNG"))
    (cat / "tall.bmp").write_bytes(encoded((1, 65_501), "BMP"))
    os.mkfifo(cat / "pipe.jpg")
    (cat / "link.jpg").symlink_to(cat / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        previous = Path.cwd()
        os.chdir(cat)  # the path of a socket has few bytes
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(previous)
        manifest = ingest(source, tmp_path / "records")
    reasons = {reject.key.rsplit("/", 1)[1]: reject.reason for reject in manifest.rejects}
    assert manifest.num_examples("train") == 4
    assert set(reasons) == {"wide.png", "tall.bmp", "pipe.jpg", "link.jpg", "socket.jpg"}
    assert all(reasons[name] == "not a regular file" for name in reasons if name.endswith("jpg"))
    assert "65501x1 pixels in a PNG" in reasons["wide.png"]


def test_two_validation_folders_are_refused(source: Path) -> None:
    (source / "val").mkdir()
    with pytest.raises(UsageError, match=r"validation and .*/val; remove or rename"):
        find_source(str(source))


def test_a_class_without_training_images_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "train" / "empty").mkdir()
    with pytest.raises(DataError, match="train/empty holds no images"):
        ingest(source, tmp_path / "records")
