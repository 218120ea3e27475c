"""The orientation tag of EXIF, with which cameras say how to turn the stored pixels upright.

TensorFlow's decoder ignores the tag, and so did the original training; records keep the bytes,
so training and evaluation see the stored pixels. `prepare --apply-orientation` turns the pixels.
"""

from __future__ import annotations

import warnings

from PIL import Image

from preprocessing.sources.references import Box

MARK = b"Exif\0\0"  # begins the APP1 segment
UPRIGHT = 1
_TAG = 0x0112
_ENTRIES = (b"\x01\x12\x00\x03", b"\x12\x01\x03\x00")  # tag and type in either byte order
# CIPA DC-008 (EXIF 2.32), 4.6.4 A "Orientation": how the stored pixels become upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def of_segment(exif: bytes) -> int:
    """Return the orientation that an EXIF segment of a JPEG says, 1 (upright) to 8.

    A damaged segment, and one without the tag, says nothing, which means 1.
    """
    if not exif or not any(entry in exif for entry in _ENTRIES):  # spares most the parser
        return UPRIGHT
    tags = Image.Exif()
    try:
        with warnings.catch_warnings(action="ignore"):
            tags.load(exif)
            return _checked(tags.get(_TAG))
    except Exception:  # Pillow's parsers raise errors of any type
        return UPRIGHT


def of_image(image: Image.Image) -> int:
    """Return the orientation that an opened image of any format says, 1 (upright) to 8."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return _checked(image.getexif().get(_TAG))
    except Exception:  # Pillow's parsers raise errors of any type
        return UPRIGHT


def _checked(value: object) -> int:
    return value if isinstance(value, int) and value in _TURNS else UPRIGHT


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image turned upright."""
    return image if orientation == UPRIGHT else image.transpose(_TURNS[orientation])


def upright_box(box: Box, orientation: int) -> Box:
    """Return a box of the stored pixels as a box of the upright image, both relative in [0, 1]."""
    xmin, ymin, xmax, ymax = box
    if orientation in (2, 3, 7, 8):
        xmin, xmax = 1 - xmax, 1 - xmin
    if orientation in (3, 4, 6, 7):
        ymin, ymax = 1 - ymax, 1 - ymin
    if orientation in (5, 6, 7, 8):
        return ymin, xmin, ymax, xmax
    return xmin, ymin, xmax, ymax
