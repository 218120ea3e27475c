"""From the bytes of one source file to a JPEG that every decoder reads the same way.

Decided by what the bytes are, not by a list of names: ImageNet holds one PNG named
`.JPEG` and 22 CMYK JPEGs (slim's `build_imagenet_data.py` lists them), other
collections hold others. An ordinary JPEG keeps its bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 100_000_000  # ImageNet's largest is 33 megapixels
REPAIRED_FORMATS = ("PNG", "GIF", "BMP", "WEBP")
REPAIR_QUALITY = 100  # as slim re-encodes
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit would come first; MAX_PIXELS decides


class RejectedImageError(Exception):
    """The bytes are no image that can be trained on; the message says why."""


@dataclass(frozen=True, slots=True)
class RepairedImage:
    """A readable RGB or grayscale JPEG.

    Attributes:
        jpeg: The original bytes unless `repaired` says otherwise.
        height: Pixels.
        width: Pixels.
        repaired: What it was before re-encoding, e.g. `PNG` or `CMYK JPEG`; empty if kept.
    """

    jpeg: bytes
    height: int
    width: int
    repaired: str


def repair(content: bytes) -> RepairedImage:
    """Decode every pixel once; re-encode as RGB JPEG what is not an RGB or grayscale JPEG.

    Raises:
        RejectedImageError: Empty, truncated, not an image, or absurdly large.
    """
    if not content:
        raise RejectedImageError("empty file")
    try:
        image = Image.open(io.BytesIO(content), formats=("JPEG", *REPAIRED_FORMATS))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise RejectedImageError(f"{width}x{height} pixels, more than {MAX_PIXELS}")
        image.load()
    except UnidentifiedImageError:
        raise RejectedImageError("not a JPEG, PNG, GIF, BMP or WebP image") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise RejectedImageError(f"cannot be decoded: {error}") from None
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        return RepairedImage(content, height, width, "")
    encoded = io.BytesIO()
    image.convert("RGB").save(encoded, "JPEG", quality=REPAIR_QUALITY)
    was = f"{image.mode} JPEG" if image.format == "JPEG" else str(image.format)
    return RepairedImage(encoded.getvalue(), height, width, was)
