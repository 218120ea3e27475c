"""What the header and the trailer of a JPEG say, without decoding a pixel.

A few microseconds an image, so that every image of an ingest is looked at. Marker
names are those of ITU-T T.81, table B.1.
"""

from __future__ import annotations

from dataclasses import dataclass

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD8), 0xFF))  # TEM, RST0-7, fill
HUFFMAN_FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended, progressive
ARITHMETIC_FRAMES = frozenset((0xC9, 0xCA))
DECODABLE_FRAMES = HUFFMAN_FRAMES | ARITHMETIC_FRAMES
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC


class JpegError(ValueError):
    """The bytes are not a whole JPEG; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The frame header of a JPEG.

    Attributes:
        height: Pixels.
        width: Pixels.
        components: 1 is grayscale, 3 colour, 4 CMYK or YCCK.
        precision: Bits per sample.
        frame: Second byte of the SOF marker: which coding.
        scan: Offset of the first scan's header.
    """

    height: int
    width: int
    components: int
    precision: int
    frame: int
    scan: int


def read_header(content: bytes) -> JpegHeader:
    """Walk the markers up to the first scan; garbage between them is skipped as libjpeg does.

    Raises:
        JpegError: No SOI, or cut short or contradictory before the first scan.
    """
    if not content.startswith(SOI):
        raise JpegError("not a JPEG")
    position, end, frame = 2, len(content) - 4, None
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
        if marker == _SOS:
            if frame is None:
                raise JpegError("no frame header before its pixels")
            return JpegHeader(*frame, position)
        if marker in _FRAMES:
            if frame is not None:
                raise JpegError("two frame headers")
            frame = _frame(content[position : position + 10], length)
        elif length < 2:
            raise JpegError("damaged marker in its header")
        position += 2 + length


def _frame(segment: bytes, length: int) -> tuple[int, int, int, int, int]:
    if len(segment) < 10 or length != 8 + 3 * segment[9]:
        raise JpegError("damaged frame header")
    height, width = segment[5] << 8 | segment[6], segment[7] << 8 | segment[8]
    if not height or not width:
        raise JpegError(f"{width}x{height} pixels")
    return height, width, segment[9], segment[4], segment[1]


def is_complete(content: bytes, header: JpegHeader) -> bool:
    """Whether the end-of-image marker is there; cameras append more behind it.

    The two bytes cannot occur inside entropy-coded data, where 0xFF is followed by 0.
    """
    return content.endswith(EOI) or content.rfind(EOI, header.scan) >= 0
