"""What is accepted, what is re-encoded and what is rejected, by content and never by name."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from preprocessing.repair import RejectedImageError, repair

PIXELS = np.linspace(0, 255, 24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encode(image: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_ordinary_jpeg_keeps_its_bytes(mode: str) -> None:
    original = encode(PICTURE.convert(mode), "JPEG")
    image = repair(original)
    assert (image.jpeg, image.height, image.width, image.repaired) == (original, 24, 32, "")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP"])
def test_other_formats_become_rgb_jpegs_that_look_the_same(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = repair(encode(PICTURE, kind, **options))
    assert image.repaired == kind
    decoded = Image.open(io.BytesIO(image.jpeg))
    assert (decoded.format, decoded.mode, decoded.size) == ("JPEG", "RGB", (32, 24))
    assert np.abs(np.asarray(decoded, int) - PIXELS).mean() < 8


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    image = repair(encode(PICTURE.convert("CMYK"), "JPEG", quality=100))
    assert image.repaired == "CMYK JPEG"
    decoded = Image.open(io.BytesIO(image.jpeg))
    assert decoded.mode == "RGB"
    assert np.abs(np.asarray(decoded, int) - PIXELS).mean() < 8


def test_repair_gives_the_same_bytes_every_time() -> None:
    png = encode(PICTURE, "PNG")
    assert repair(png) == repair(png)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "not a JPEG"),
        (encode(PICTURE, "JPEG")[:-200], "(?i)truncated"),
        (encode(PICTURE, "JPEG")[:-20], "truncated"),
        (encode(PICTURE, "PNG")[:-40], "cannot be decoded"),
        (encode(Image.new("1", (20_000, 20_000)), "PNG"), "20000x20000 pixels"),
        (encode(PICTURE, "TIFF"), "not a JPEG"),
    ],
    ids=[
        "empty",
        "not an image",
        "in header",
        "in pixels",
        "truncated PNG",
        "bomb",
        "other format",
    ],
)
def test_what_cannot_be_trained_on_is_rejected_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(RejectedImageError, match=reason):
        repair(content)
