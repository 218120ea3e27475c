"""The header and the trailer of a JPEG, read without decoding a pixel.

Reading them takes a few microseconds per image, so every image of an ingest is checked. Marker
names are those of ITU-T T.81, table B.1.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from preprocessing.images.orientation import MARK

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
START = b"\xff\xd8\xff"  # by which TensorFlow and Pillow know a JPEG
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_COMMENTS = frozenset((*range(0xE0, 0xF0), 0xFE))  # APP0-15, COM
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD8), 0xFF))  # TEM, RST0-7, fill
HUFFMAN_FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended, progressive
ALL_COEFFICIENTS = b"\0\x3f\0"  # Ss, Se, Ah and Al of a sequential scan
PROGRESSIVE_FRAMES = frozenset((0xC2, 0xCA))
ARITHMETIC_FRAMES = frozenset((0xC9, 0xCA))
DECODABLE_FRAMES = HUFFMAN_FRAMES | ARITHMETIC_FRAMES
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC


# Height, width, components, precision, frame and sampling of a `JpegHeader`.
_Frame = tuple[int, int, int, int, int, bytes]
_PROBE_SIDES = b"\0\x10\0\x10"  # 16 x 16 pixels


class JpegError(ValueError):
    """The bytes are not a whole JPEG; the message names the problem."""


class JpegHeader(NamedTuple):
    """The frame header of a JPEG.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        components: Number of components: 1 for grayscale, 3 for colour, 4 for CMYK or YCCK.
        precision: Bits per sample.
        frame: Second byte of the SOF marker, which names the coding.
        sampling: Sampling factors of each component, one byte each: horizontal x 16 + vertical.
        tables: Offset of the first marker that is no comment.
        frame_marker: Offset of the SOF marker.
        scan: Offset of the first scan's header.
        exif: The first EXIF segment, from its mark on; empty without one.
        has_partial_scan: Whether the first scan of a sequential JPEG lacks components or
            coefficients, so that the header says little about the others.
    """

    height: int
    width: int
    components: int
    precision: int
    frame: int
    sampling: bytes
    tables: int
    frame_marker: int
    scan: int
    exif: bytes = b""
    has_partial_scan: bool = False

    @property
    def has_fractional_sampling(self) -> bool:
        """Whether a component's resolution is no whole fraction of the image's.

        libjpeg does not upsample such components (jdsample.c, "fractional sampling").
        """
        return _is_fractional(self.sampling)


@functools.lru_cache(maxsize=256)
def _is_fractional(sampling: bytes) -> bool:
    factors = [(factor >> 4, factor & 15) for factor in sampling]
    across, down = (max(pair) for pair in zip(*factors, strict=True))
    return any(not (h and v) or across % h or down % v for h, v in factors)


def read_header(content: bytes) -> JpegHeader:
    """Walk the markers up to the first scan, and skip garbage between them as libjpeg does.

    Raises:
        JpegError: The SOI marker is missing, or the header is cut short or contradictory.
    """
    if not content.startswith(SOI):
        raise JpegError("not a JPEG")
    position, end = 2, len(content) - 4
    frame: _Frame | None = None
    exif = b""
    tables = frame_marker = 0
    while True:
        if position <= end and content[position] != 0xFF:
            position = content.find(b"\xff", position)
        if not 0 <= position <= end:
            raise JpegError("truncated in its header")
        marker = content[position + 1]
        if marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == _EOI:
            raise JpegError("ends before its pixels")
        if marker == _SOI:
            raise JpegError("two start-of-image markers")
        length = content[position + 2] << 8 | content[position + 3]
        if not tables and marker not in _COMMENTS:
            tables = position
        if marker == _SOS:
            if frame is None:
                raise JpegError("no frame header before its pixels")
            is_partial = frame[4] not in PROGRESSIVE_FRAMES and (
                content[position + 4] != frame[2]
                or content[position + length - 1 : position + length + 2] != ALL_COEFFICIENTS
            )
            return JpegHeader(*frame, tables, frame_marker, position, exif, is_partial)
        if marker in _FRAMES:
            if frame is not None:
                raise JpegError("two frame headers")
            frame = _frame(content[position : position + 2 + length], length)
            frame_marker = position
        elif length < 2:
            raise JpegError("damaged marker in its header")
        elif marker == _APP1 and not exif and content.startswith(MARK, position + 4):
            exif = content[position + 4 : position + 2 + length]
        position += 2 + length


def _frame(segment: bytes, length: int) -> _Frame:
    if len(segment) < 10 or length != 8 + 3 * segment[9] or len(segment) < 2 + length:
        raise JpegError("damaged frame header")
    height, width = segment[5] << 8 | segment[6], segment[7] << 8 | segment[8]
    if not height or not width:
        raise JpegError(f"{width}x{height} pixels")
    return height, width, segment[9], segment[4], segment[1], segment[11::3]


def is_complete(content: bytes, header: JpegHeader) -> bool:
    """Return whether the end-of-image marker exists; cameras append more behind it.

    The two bytes cannot occur inside entropy-coded data, where 0xFF is followed by 0.
    """
    return content.endswith(EOI) or content.rfind(EOI, header.scan) >= 0


def probe(content: bytes, header: JpegHeader) -> bytes:
    """Return a JPEG of 16 x 16 pixels with the tables of `content` and without a scan's data.

    A decoder accepts it when it accepts the header of `content`, at a fraction of the cost, and
    it is the same for all images of one encoder and quality.
    """
    data = header.scan + 2 + (content[header.scan + 2] << 8 | content[header.scan + 3])
    sides = header.frame_marker + 5
    return b"".join(
        (SOI, content[header.tables : sides], _PROBE_SIDES, content[sides + 4 : data], EOI)
    )
