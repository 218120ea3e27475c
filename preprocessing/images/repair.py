"""Repair: one source file becomes a JPEG that every decoder reads in the same way.

The bytes decide, not a list of names: ImageNet holds one PNG named `.JPEG` and 22 CMYK JPEGs
(slim's `build_imagenet_data.py` lists them), and other collections hold others. An ordinary
JPEG keeps its bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from preprocessing.images import jpeg
from preprocessing.images.jpeg import JpegHeader
from preprocessing.images.orientation import UPRIGHT, of_image, of_segment, upright

MAX_PIXELS = 100_000_000  # ImageNet's largest is 33 megapixels
MAX_FILE_BYTES = 1 << 27  # 128 MiB
MAX_JPEG_SIDE = 65_500  # libjpeg's limit in pixels, for reading and writing
REPAIRED_FORMATS = ("PNG", "GIF", "BMP", "WEBP")
TURNED = "EXIF orientation"  # the kind of a JPEG that was turned upright
REPAIR_QUALITY = 100  # the quality with which slim re-encodes
ENCODED_DPI = (300, 300)  # TensorFlow's encoder writes this for every image
SHRINK_QUALITY = 90
Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS decides; Pillow's own limit would come first


class RejectedImageError(Exception):
    """The bytes are not an image to train on; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class RepairedImage:
    """A readable RGB or grayscale JPEG.

    Attributes:
        jpeg: The original bytes, unless the image was repaired or shrunk.
        height: Height in pixels.
        width: Width in pixels.
        repaired: The kind before re-encoding, such as `PNG` or `CMYK JPEG`; None if kept.
        orientation: The orientation that the source file says, whether applied or not.
    """

    jpeg: bytes
    height: int
    width: int
    repaired: str | None
    orientation: int = UPRIGHT


def repair(
    content: bytes, *, decode_check: bool = False, apply_orientation: bool = False
) -> RepairedImage:
    """Check one file, and re-encode it as an RGB JPEG unless it is an RGB or grayscale JPEG.

    Header, dimensions, colour components and trailer are always checked. Pixels are decoded
    only when the image is re-encoded.

    Args:
        content: The whole file.
        decode_check: Also decode the pixels of files that keep their bytes, and reject damage
            of which decoders only warn.
        apply_orientation: Turn images upright whose EXIF segment says that they are not, and
            re-encode them.

    Raises:
        RejectedImageError: The file is empty, truncated, not an image, or absurdly large.
    """
    if not content:
        raise RejectedImageError("empty file")
    if len(content) > MAX_FILE_BYTES:
        raise RejectedImageError(f"more than {MAX_FILE_BYTES} bytes")
    if not content.startswith(jpeg.START):
        return _reencode(content, apply_orientation)
    try:
        header = jpeg.read_header(content)
    except jpeg.JpegError as error:
        raise RejectedImageError(f"damaged JPEG: {error}") from None
    _refuse_large(header.width, header.height)
    _refuse_unusual(header)
    if not jpeg.is_complete(content, header):
        raise RejectedImageError("truncated JPEG: no end-of-image marker")
    if decode_check:
        _decode(content, header)
    elif header.has_partial_scan or not _is_decodable(jpeg.probe(content, header)):
        _open(content)  # decides whether what is unusual or wrong is fatal
    if header.components == 4 or header.frame in jpeg.ARITHMETIC_FRAMES:
        return _reencode(content, apply_orientation)
    orientation = of_segment(header.exif)
    if apply_orientation and orientation != UPRIGHT:
        return _turned(content, orientation)
    return RepairedImage(content, header.height, header.width, None, orientation)


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise RejectedImageError(f"{width}x{height} pixels, more than {MAX_PIXELS}")


def _refuse_unusual(header: JpegHeader) -> None:
    """Refuse a JPEG that libjpeg does not decode to 8-bit samples."""
    if header.frame not in jpeg.DECODABLE_FRAMES:
        raise RejectedImageError("lossless or hierarchical JPEG")
    if header.precision != 8:
        raise RejectedImageError(f"JPEG of {header.precision} bits per sample")
    if header.components not in (1, 3, 4):
        raise RejectedImageError(f"JPEG of {header.components} components")
    if max(header.width, header.height) > MAX_JPEG_SIDE:
        raise RejectedImageError(
            f"{header.width}x{header.height} pixels, more than {MAX_JPEG_SIDE} on a side"
        )
    if header.has_fractional_sampling:
        raise RejectedImageError("JPEG of fractional sampling factors, which no decoder reads")


@functools.lru_cache(maxsize=4096)
def _is_decodable(probe: bytes) -> bool:
    """Return whether libjpeg-turbo accepts the header and tables of a JPEG without a complaint."""
    try:
        simplejpeg.decode_jpeg(probe, "GRAY", fastdct=True, fastupsample=True, strict=False)
    except ValueError:
        return False
    return True


def _decode(content: bytes, header: JpegHeader) -> None:
    """Decode the whole image with libjpeg-turbo.

    Every coefficient of every component passes through the entropy decoder, the only part of
    decoding that can fail. When gray is requested, libjpeg leaves out the colour arithmetic
    that follows and cannot fail.
    """
    colorspace = "CMYK" if header.components == 4 else "GRAY"
    try:
        simplejpeg.decode_jpeg(content, colorspace, fastdct=True, fastupsample=True, strict=True)
    except ValueError as error:
        if "subsampling" in str(error):  # it knows only the usual ones; Pillow knows all
            _open(content)
            return
        raise RejectedImageError(f"cannot be decoded: {error}") from None


def _open(content: bytes) -> Image.Image:
    """Decode with Pillow."""
    try:
        image = Image.open(io.BytesIO(content), formats=("JPEG", *REPAIRED_FORMATS))
        _refuse_large(*image.size)
        image.load()
    except UnidentifiedImageError:
        raise RejectedImageError("not a JPEG, PNG, GIF, BMP or WebP image") from None
    except RejectedImageError:
        raise
    except Exception as error:  # Pillow's parsers raise errors of any type
        raise RejectedImageError(f"cannot be decoded: {error}") from None
    return image


def _turned(content: bytes, orientation: int) -> RepairedImage:
    image = upright(_open(content), orientation)
    jpeg_bytes = _encode(image, REPAIR_QUALITY)
    return RepairedImage(jpeg_bytes, image.height, image.width, TURNED, orientation)


def _reencode(content: bytes, apply_orientation: bool) -> RepairedImage:
    image = _open(content)
    orientation = of_image(image)
    kind = str(image.format)
    if image.format == "JPEG":
        kind = "CMYK JPEG" if image.mode == "CMYK" else "arithmetic JPEG"
    width, height = image.size
    if max(width, height) > MAX_JPEG_SIDE:
        raise RejectedImageError(
            f"{width}x{height} pixels in a {kind}; a JPEG has at most {MAX_JPEG_SIDE} on a side"
        )
    pixels = _rgb(image, content)
    if apply_orientation:
        pixels = upright(pixels, orientation)
    jpeg_bytes = _encode(pixels, REPAIR_QUALITY)
    return RepairedImage(jpeg_bytes, pixels.height, pixels.width, kind, orientation)


def _rgb(image: Image.Image, content: bytes) -> Image.Image:
    """Return the image as RGB, without transparency.

    16-bit grayscale loses its low byte; Pillow would clip it. CMYK is decoded as in TensorFlow
    (fast DCT, `jpeg_mem.cc`), so that the records are byte for byte those of slim.
    """
    if image.mode == "CMYK":
        try:
            ink = simplejpeg.decode_jpeg(content, "CMYK", fastdct=True, strict=False)
        except ValueError:  # an unusual subsampling
            return image.convert("RGB")
        light = ink.astype(np.uint16)
        if "adobe" not in image.info:  # Adobe stores CMYK inverted
            light = 255 - light
        return Image.fromarray((light[..., :3] * light[..., 3:] // 255).astype(np.uint8))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:  # the direct conversion makes Pillow warn
        image = image.convert("RGBA")
    return image.convert("RGB")


def _encode(image: Image.Image, quality: int) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality, dpi=ENCODED_DPI)
    return encoded.getvalue()


def shrink(image: RepairedImage, short_side: int, quality: int = SHRINK_QUALITY) -> RepairedImage:
    """Resize an image so that its shorter side has `short_side` pixels; never enlarge it.

    The image is decoded at a reduced size of a power of two that is at least twice the target,
    then resized bicubically with antialiasing. Grayscale stays grayscale. An image that is small
    enough keeps its bytes.

    Args:
        image: The repaired image.
        short_side: Length of the shorter side in pixels.
        quality: Quality of the JPEG, 1 to 100.

    Raises:
        RejectedImageError: The pixels cannot be decoded.
    """
    shortest = min(image.height, image.width)
    if shortest <= short_side:
        return image
    width, height = (
        max(1, round(side * short_side / shortest)) for side in (image.width, image.height)
    )
    try:
        decoded = Image.open(io.BytesIO(image.jpeg), formats=("JPEG",))
        box = None
        if draft := decoded.draft(decoded.mode, (2 * width, 2 * height)):
            box = draft[1]
        resized = decoded.resize((width, height), Image.Resampling.BICUBIC, box=box)
    except Exception as error:  # Pillow's parsers raise errors of any type
        raise RejectedImageError(f"cannot be decoded: {error}") from None
    jpeg_bytes = _encode(resized, quality)
    return dataclasses.replace(image, jpeg=jpeg_bytes, height=height, width=width)
