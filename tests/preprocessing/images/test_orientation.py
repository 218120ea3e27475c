"""EXIF orientation is counted and ignored, or applied as Pillow and every viewer do."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from preprocessing.images import jpeg, orientation
from preprocessing.images.repair import TURNED, RepairedImage, repair
from preprocessing.ingest_plan import ImageOptions
from preprocessing.records.records_folder import read_at
from preprocessing.records.schema import ENCODED, Manifest
from tests.conftest import ingest
from tests.preprocessing.layouts import write_folders

TAG = 0x0112
# Four colours, so that every turn shows; 16 x 8 blocks survive the JPEG.
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
STORED = Image.fromarray(CORNERS.repeat(16, 0).repeat(32, 1))


def tagged(number: int, kind: str = "JPEG", image: Image.Image = STORED) -> bytes:
    exif = Image.Exif()
    exif[TAG] = number
    packed = io.BytesIO()
    options = {"subsampling": 0} if kind == "JPEG" else {}
    image.save(packed, kind, exif=exif, quality=95, **options)
    return packed.getvalue()


def pixels(image: RepairedImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.jpeg)).convert("RGB"), int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("number", range(1, 9))
def test_it_is_applied_as_pillow_applies_it(number: int, kind: str) -> None:
    content = tagged(number, kind)
    kept, turned = repair(content), repair(content, apply_orientation=True)
    assert (kept.orientation, turned.orientation) == (number, number)
    assert (kept.jpeg == content) == (kind == "JPEG")
    assert (kept.width, kept.height) == STORED.size
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    assert pixels(turned).shape == expected.shape == (turned.height, turned.width, 3)
    assert np.abs(pixels(turned) - expected).mean() < 12
    if kind == "JPEG":
        assert turned.repaired == (None if number == 1 else TURNED)
        assert "exif" not in Image.open(io.BytesIO(turned.jpeg)).info or number == 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_stays_gray_and_cmyk_becomes_rgb(mode: str) -> None:
    turned = repair(tagged(6, image=STORED.convert(mode)), apply_orientation=True)
    decoded = Image.open(io.BytesIO(turned.jpeg))
    assert decoded.size == (STORED.height, STORED.width)
    assert decoded.mode == ("L" if mode == "L" else "RGB")


@pytest.mark.parametrize("number", range(1, 9))
def test_a_box_turns_with_its_pixels(number: int) -> None:
    """The box holds the white pixels: the lower right quarter as stored."""
    turned = repair(tagged(number), apply_orientation=True)
    xmin, ymin, xmax, ymax = orientation.upright_box((0.5, 0.5, 1.0, 1.0), number)
    inside = np.zeros((turned.height, turned.width), bool)
    inside[
        round(ymin * turned.height) : round(ymax * turned.height),
        round(xmin * turned.width) : round(xmax * turned.width),
    ] = True
    white = (pixels(turned) > 200).all(-1)
    assert (white == inside).mean() > 0.97


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_number_that_means_nothing_is_upright(value: int) -> None:
    assert repair(tagged(value)).orientation == 1


def test_damaged_segments_are_upright_and_no_error() -> None:
    sound = tagged(6)
    segment = jpeg.read_header(sound).exif
    assert orientation.of_segment(segment) == 6
    for place in range(len(segment)):
        for value in (0, 255):
            damaged = bytearray(segment)
            damaged[place] = value
            assert orientation.of_segment(bytes(damaged)) in range(1, 9)
        assert orientation.of_segment(segment[:place]) in range(1, 9)
    endless = b"Exif\0\0MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 65535)
    assert orientation.of_segment(endless + b"\x01\x12\x00\x03") in range(1, 9)


def test_prepare_counts_the_tags_and_turns_boxes_too(tmp_path: Path) -> None:
    source = write_folders(tmp_path / "source")
    for number in (1, 3, 6):
        (source / "train" / "n01440764" / f"tagged_{number}.JPEG").write_bytes(tagged(number))
    kept = ingest(source, tmp_path / "kept")
    assert (kept.statistics.train.oriented, kept.statistics.validation.oriented) == (2, 0)
    assert TURNED not in kept.repaired
    options = ImageOptions(apply_orientation=True)
    turned = ingest(source, tmp_path / "turned", image=options)
    assert turned.statistics.train.oriented == 2
    assert turned.repaired[TURNED] == 2
    assert turned.options["apply_orientation"] is True
    assert {shape(tmp_path / "kept", kept), shape(tmp_path / "turned", turned)} == {
        (64, 32),
        (32, 64),
    }


def shape(records: Path, manifest: Manifest) -> tuple[int, int]:
    """Return the size of the image with orientation 6."""
    file = manifest.shards["train"][0].file
    with open(records / file, "rb") as stream:
        offset = 0
        while True:
            features = read_at(stream, offset, file)
            offset = stream.tell()
            if features["image/filename"] == [b"tagged_6.JPEG"]:
                size: tuple[int, int] = Image.open(io.BytesIO(features[ENCODED][0])).size
                return size
