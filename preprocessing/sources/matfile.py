"""Struct arrays of MAT-files of level 5, the format of the development kit's `meta.mat`.

SciPy reads them too, but its reader follows damaged sizes beyond its buffer and crashes the
process. Layout: MathWorks, "MAT-File Format", level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any, NamedTuple

MAX_BYTES = 1 << 26  # after decompression
_HEADER_BYTES, _TAG_BYTES = 128, 8
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _CHARACTERS, _NUMBERS = 2, 4, range(6, 16)  # array classes
_NUMBER_FORMATS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}

# Text, the numbers of an array in column-major order, or None for a value that is not read.
Value = str | list[float] | None


class MatFileError(ValueError):
    """The bytes are not a MAT-file of level 5, or contradict themselves."""


class _Element(NamedTuple):
    kind: int
    content: memoryview


class _Reader:
    """A reader of the data elements in a stretch of bytes, one after the other."""

    def __init__(self, content: bytes | memoryview, order: str) -> None:
        self._content, self._order, self._position = memoryview(content), order, 0

    @property
    def is_at_end(self) -> bool:
        return self._position >= len(self._content)

    def next(self, kind: int | None = None) -> _Element:
        """Return the next element, which must have the type `kind` if one is given."""
        start = self._position + _TAG_BYTES
        if start > len(self._content):
            raise MatFileError("it is cut short")
        first, size = struct.unpack_from(f"{self._order}II", self._content, self._position)
        if first >> 16:  # up to four bytes lie inside the tag
            first, size, start = first & 0xFFFF, first >> 16, start - 4
            self._position += _TAG_BYTES
            if size > 4:
                raise MatFileError("an element is longer than its space")
        else:
            padding = 0 if first == _COMPRESSED else -size % 8
            self._position = start + size + padding
        if start + size > len(self._content):
            raise MatFileError("it is cut short")
        if kind is not None and first != kind:
            raise MatFileError(f"an element of type {first} where {kind} should be")
        return _Element(first, self._content[start : start + size])

    def integers(self) -> tuple[int, ...]:
        """Return the next element as 32-bit integers."""
        content = self.next().content
        if len(content) % 4:
            raise MatFileError("integers of odd size")
        return struct.unpack(f"{self._order}{len(content) // 4}i", content)

    def text(self) -> str:
        """Return the next element as a name."""
        return bytes(self.next().content).decode("ascii", errors="replace")


def read_structs(content: bytes, name: str) -> list[dict[str, Value]]:
    """Return the elements of the struct array `name`, in column-major order.

    Raises:
        MatFileError: The file has no such array, or is damaged.
    """
    if len(content) < _HEADER_BYTES or content[126:128] not in (b"IM", b"MI"):
        raise MatFileError("it is no MAT-file of level 5")
    order = "<" if content[126:128] == b"IM" else ">"
    variables = _Reader(content[_HEADER_BYTES:], order)
    while not variables.is_at_end:
        element = variables.next()
        if element.kind == _COMPRESSED:
            element = _Reader(_decompressed(element.content), order).next()
        if element.kind == _MATRIX:
            reader = _Reader(element.content, order)
            array_class, count, array_name = _array_head(reader)
            if array_name == name:
                if array_class != _STRUCT:
                    raise MatFileError(f"{name} is no struct array")
                return _structs(reader, count, order)
    raise MatFileError(f"it holds no {name}")


def _decompressed(content: memoryview) -> bytes:
    try:
        stream = zlib.decompressobj()
        decompressed = stream.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise MatFileError(str(error)) from None
    if not stream.eof:
        raise MatFileError("its compressed part is cut short or too large")
    return decompressed


def _array_head(reader: _Reader) -> tuple[int, int, str]:
    """Return the class, the number of elements and the name of an array."""
    flags, dimensions, name = reader.integers(), reader.integers(), reader.text()
    if not flags or any(size < 0 for size in dimensions):
        raise MatFileError("an array with a damaged head")
    return flags[0] & 0xFF, math.prod(dimensions), name


def _structs(reader: _Reader, count: int, order: str) -> list[dict[str, Value]]:
    lengths, packed = reader.integers(), bytes(reader.next().content)
    if len(lengths) != 1 or lengths[0] < 1 or len(packed) % lengths[0] or not packed:
        raise MatFileError("damaged names of fields")
    names = [
        packed[start : start + lengths[0]].split(b"\0")[0].decode("ascii", errors="replace")
        for start in range(0, len(packed), lengths[0])
    ]
    rows = []
    for _ in range(count):  # too large a count ends with the bytes
        rows.append({name: _value(reader.next(_MATRIX), order) for name in names})
    return rows


def _value(element: _Element, order: str) -> Value:
    if not element.content:
        return None
    reader = _Reader(element.content, order)
    array_class, count, _ = _array_head(reader)
    if array_class != _CHARACTERS and array_class not in _NUMBERS:
        return None
    if count == 0:
        return "" if array_class == _CHARACTERS else []
    data = reader.next()
    if array_class == _CHARACTERS:
        return _characters(data, order)
    form: Any = _NUMBER_FORMATS.get(data.kind)
    if form is None or len(data.content) != count * struct.calcsize(form):
        raise MatFileError("numbers of another type or count than announced")
    return list(map(float, struct.unpack(f"{order}{count}{form}", data.content)))


def _characters(data: _Element, order: str) -> str:
    encoding = _ENCODINGS.get(data.kind)
    if encoding is None:
        raise MatFileError("characters of an unknown encoding")
    if encoding == "utf-16":
        encoding = "utf-16-le" if order == "<" else "utf-16-be"
    try:
        return bytes(data.content).decode(encoding)
    except UnicodeDecodeError as error:
        raise MatFileError(str(error)) from None
