"""Content alone decides what is accepted, re-encoded and rejected, never a name."""

from __future__ import annotations

import base64
import io
import itertools
import random
import struct

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf
from PIL import Image

from preprocessing.images import jpeg
from preprocessing.images.repair import (
    MAX_FILE_BYTES,
    RejectedImageError,
    RepairedImage,
    repair,
    shrink,
)

PIXELS = np.linspace(0, 255, 24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode(image: RepairedImage) -> Image.Image:
    return Image.open(io.BytesIO(image.jpeg))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("decode_check", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
def test_an_ordinary_jpeg_keeps_its_bytes(mode: str, progressive: bool, decode_check: bool) -> None:
    original = encode(PICTURE.convert(mode), "JPEG", progressive=progressive)
    image = repair(original, decode_check=decode_check)
    assert (image.jpeg, image.height, image.width, image.repaired) == (original, 24, 32, None)


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
        (encode(PICTURE, "JPEG")[:300], "truncated in its header"),
        (encode(PICTURE, "JPEG")[:-200], "truncated"),
        (encode(PICTURE, "JPEG")[:-20], "truncated"),
        (encode(PICTURE, "PNG")[:-40], "cannot be decoded"),
        (encode(Image.new("1", (20_000, 20_000)), "PNG"), "20000x20000 pixels"),
        (encode(PICTURE, "TIFF"), "not a JPEG"),
        (bytes(MAX_FILE_BYTES + 1), "more than 134217728 bytes"),
    ],
    ids=[
        "empty",
        "not an image",
        "in header",
        "in pixels",
        "near the end",
        "truncated PNG",
        "bomb",
        "other format",
        "huge file",
    ],
)
def test_what_cannot_be_trained_on_is_rejected_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(RejectedImageError, match=reason):
        repair(content)


@pytest.mark.parametrize("behind", [b"\0" * 7, b"SEFT appended by a camera"])
def test_bytes_behind_the_end_of_the_image_are_no_damage(behind: bytes) -> None:
    original = encode(PICTURE, "JPEG") + behind
    assert repair(original).jpeg == original
    assert repair(original, decode_check=True).jpeg == original


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    thumbnail = encode(PICTURE.resize((8, 6)), "JPEG")
    original = encode(PICTURE, "JPEG", exif=b"Exif\0\0" + thumbnail)
    assert repair(original).jpeg == original
    with pytest.raises(RejectedImageError, match="truncated"):
        repair(original[:-20])


def test_exactly_the_sampling_that_tensorflow_refuses_is_rejected() -> None:
    """All factors from 1 to 4, of luminance and of both colours together."""
    sound = encode(PICTURE, "JPEG", quality=90)
    start = sound.index(b"\xff\xc0") + 11
    accepted = 0
    for luma, chroma in itertools.product(itertools.product(range(1, 5), repeat=2), repeat=2):
        changed = bytearray(sound)
        changed[start] = luma[0] << 4 | luma[1]
        changed[start + 3] = changed[start + 6] = chroma[0] << 4 | chroma[1]
        try:
            tf.io.decode_jpeg(bytes(changed), channels=3)
        except tf.errors.InvalidArgumentError:
            with pytest.raises(RejectedImageError, match=r"sampling|cannot be decoded"):
                repair(bytes(changed))
            continue
        accepted += 1
        assert repair(bytes(changed)).repaired is None, (luma, chroma)
    assert accepted == 47


def test_sides_beyond_libjpegs_limit_are_rejected() -> None:
    sound = bytearray(encode(PICTURE, "JPEG", quality=90))
    frame = sound.index(b"\xff\xc0")
    for height, width in ((65_501, 8), (8, 65_535)):
        changed = sound.copy()
        changed[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
        with pytest.raises(RejectedImageError, match="more than 65500 on a side"):
            repair(bytes(changed))
        with pytest.raises(tf.errors.InvalidArgumentError):
            tf.io.decode_jpeg(bytes(changed))


def test_garbage_between_markers_is_skipped_as_libjpeg_does() -> None:
    original = encode(PICTURE, "JPEG")
    assert repair(original[:20] + b"zz" + original[20:]).width == 32


NOISE = np.random.default_rng(4).integers(0, 256, (64, 96, 3)).astype(np.uint8)


def test_damage_inside_the_pixels_is_found_by_the_decode_check() -> None:
    original = encode(Image.fromarray(NOISE), "JPEG")
    middle = len(original) // 2
    damaged = original[:middle] + bytes(200) + original[middle + 200 :]
    assert repair(damaged).jpeg == damaged
    with pytest.raises(RejectedImageError, match="cannot be decoded: Corrupt JPEG data"):
        repair(damaged, decode_check=True)


def test_the_decode_check_rejects_exactly_what_a_full_decode_warns_of() -> None:
    """The check leaves out the colour arithmetic, which cannot fail."""
    random = np.random.default_rng(11)
    verdicts = []
    for progressive in (False, True):
        original = encode(Image.fromarray(NOISE), "JPEG", progressive=progressive)
        scan = jpeg.read_header(original).scan + 14
        for _ in range(300):
            damaged = bytearray(original)
            for position in random.integers(scan, len(original) - 2, random.integers(0, 4)):
                damaged[position] = random.integers(0, 256)
            content = bytes(damaged)
            try:
                simplejpeg.decode_jpeg(content, "RGB", strict=True)
                sound = True
            except ValueError:
                sound = False
            try:
                repair(content, decode_check=True)
                accepted = True
            except RejectedImageError:
                accepted = False
            assert accepted == sound
            verdicts.append(sound)
    assert 100 < sum(verdicts) < 500


# PICTURE at quality 90, through `jpegtran -arithmetic`: no encoder here writes such.
ARITHMETIC = base64.b64decode(
    b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsL"
    b"EBYQERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    b"FBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAYACADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AOZB"
    b"kQ9LJ49mRnefkwBsbKIOTvg3UG9m805ko9qSw9/k7Sjp7RCsbQ2pC8GMXRw0/LC0T//Z"
)


def test_an_arithmetic_jpeg_becomes_one_that_every_decoder_reads() -> None:
    image = repair(ARITHMETIC, decode_check=True)
    assert (image.repaired, image.width, image.height) == ("arithmetic JPEG", 32, 24)
    expected = Image.open(io.BytesIO(encode(PICTURE, "JPEG", quality=90)))
    assert np.abs(np.asarray(decode(image), int) - np.asarray(expected, int)).max() <= 2


def test_a_sixteen_bit_grayscale_png_keeps_its_brightness() -> None:
    levels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    image = repair(encode(Image.fromarray(levels), "PNG"))
    assert np.abs(np.asarray(decode(image), int)[..., 0] - (levels >> 8)).max() <= 2


def change_frame(**changed: int) -> bytes:
    """Return a JPEG whose frame header has other values."""
    content = bytearray(encode(PICTURE, "JPEG"))
    start = content.index(b"\xff\xc0")
    for name, value in changed.items():
        content[start + {"marker": 1, "precision": 4, "height": 6, "components": 9}[name]] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (change_frame(marker=0xC3), "lossless"),
        (change_frame(precision=12), "12 bits per sample"),
        (change_frame(height=0), "32x0 pixels"),
        (change_frame(components=2), "damaged frame header"),
        (b"\xff\xd8\xff\xd9behind", "ends before its pixels"),
    ],
)
def test_a_jpeg_that_decoders_refuse_is_rejected_by_its_header(content: bytes, reason: str) -> None:
    with pytest.raises(RejectedImageError, match=reason):
        repair(content)


@pytest.mark.parametrize(("size", "expected"), [((400, 300), (133, 100)), ((300, 900), (100, 300))])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_shrinking_gives_the_short_side_and_keeps_the_aspect(
    mode: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = PICTURE.resize(size, Image.Resampling.BICUBIC).convert(mode)
    image = shrink(repair(encode(picture, "JPEG", quality=95)), 100, 90)
    shrunk = decode(image)
    assert (shrunk.mode, shrunk.size, (image.width, image.height)) == (mode, expected, expected)
    reference = np.asarray(picture.resize(expected, Image.Resampling.BICUBIC), int)
    assert np.abs(np.asarray(shrunk, int) - reference).mean() < 3


def test_shrinking_never_enlarges_and_gives_the_same_bytes_every_time() -> None:
    small, large = (
        repair(encode(PICTURE, "JPEG")),
        repair(encode(PICTURE.resize((320, 240)), "JPEG")),
    )
    assert shrink(small, 24, 90) is small
    assert shrink(small, 100, 90) is small
    assert shrink(large, 24, 90) == shrink(large, 24, 90)
    assert len(shrink(large, 100, 95).jpeg) > len(shrink(large, 100, 60).jpeg)


def test_shrinking_remembers_what_was_repaired() -> None:
    image = shrink(repair(encode(PICTURE.resize((320, 240)), "PNG")), 60, 90)
    assert (image.height, image.width, image.repaired) == (60, 80, "PNG")


def test_what_is_accepted_by_its_header_tensorflow_decodes() -> None:
    """The bytes of the header are edited at random; the data of the scan stays sound."""
    chance = random.Random(4)
    detailed = PICTURE.resize((64, 48), Image.Resampling.NEAREST)
    sound = [
        encode(detailed, "JPEG", quality=80),
        encode(detailed, "JPEG", quality=80, progressive=True),
        encode(detailed, "JPEG", optimize=True, subsampling=0),
        encode(detailed, "JPEG", restart_marker_blocks=4),
        encode(detailed.convert("L"), "JPEG"),
    ]
    accepted = refused = 0
    for number in range(6000):
        edited = bytearray(chance.choice(sound))
        scan = jpeg.read_header(bytes(edited)).scan
        for _ in range(chance.choice((1, 1, 2))):
            place = chance.randrange(2, scan + 2 + edited[scan + 3])
            value = chance.choice((0, 255, edited[place] ^ 1 << chance.randrange(8)))
            edited[place] = value
        try:
            image = repair(bytes(edited))
        except RejectedImageError:
            refused += 1
            continue
        accepted += 1
        try:
            pixels = tf.io.decode_jpeg(image.jpeg, channels=3)
        except tf.errors.InvalidArgumentError as error:
            raise AssertionError(f"edit {number} is accepted by mistake: {error}") from error
        assert pixels.shape == (image.height, image.width, 3)
    assert min(accepted, refused) > 500
