"""Bounding boxes from ImageNet's XML annotations, by the rules of slim.

slim's `datasets/process_bounding_boxes.py` writes a CSV with four decimals, which its
`download_and_convert_imagenet.sh` sorts and `build_imagenet_data.py` reads, so the published
records hold these numbers in this order.
"""

from __future__ import annotations

import io
import posixpath
import struct
import threading
from collections.abc import Callable, Container, Iterator
from typing import IO
from xml.parsers import expat

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.sources.references import Box
from preprocessing.sources.tar import members, open_gzipped, read_member

MAX_XML_BYTES = 1 << 20
MAX_NESTED_BYTES = 1 << 30
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _RefusedError(ValueError):
    pass


def boxes_of(xml: bytes, folder: str, known: Container[str], where: str) -> tuple[Box, ...]:
    """Return the usable boxes of one annotation, in ascending order.

    Pixels are divided by the size that the XML gives (the size that the annotator saw, not that
    of the file), swapped where inverted, clamped to 0..1 and rounded to four decimals. Boxes
    without area are dropped, and so are all boxes of a file whose first object belongs to another
    known class than `folder` (other names, such as `Scottish_deerhound`, are kept).

    Args:
        xml: The content of the file.
        folder: Class of the image.
        known: All classes.
        where: Name of the file in errors.

    Raises:
        DataError: The file is not such an annotation.
    """
    try:
        texts = _elements(xml)
        corners = [[int(text) for text in texts[name]] for name in _CORNERS]
        if -1 in corners[0]:  # slim ends the list there
            corners = [values[: corners[0].index(-1)] for values in corners]
        if len({len(values) for values in corners}) > 1:
            raise _RefusedError("a box lacks a corner")
        if not corners[0]:
            return ()
        width, height = int(texts["width"][0]), int(texts["height"][0])
        if width <= 0 or height <= 0:
            raise _RefusedError(f"an image of {width}x{height}")
    except expat.ExpatError as error:
        raise DataError(f"{where} is not XML ({error}); fetch the annotations again") from None
    except IndexError:
        raise DataError(f"{where} lacks the size of the image") from None
    except ValueError as error:
        raise DataError(f"{where} is not an annotation of boxes ({error})") from None
    label = texts["name"][0] if texts["name"] else None
    if label is not None and label != folder and label in known:
        return ()
    boxes = []
    for xmin, ymin, xmax, ymax in zip(*corners, strict=True):
        left, right = _interval(xmin / width, xmax / width)
        top, bottom = _interval(ymin / height, ymax / height)
        if left < right and top < bottom:
            boxes.append((round(left, 4), round(top, 4), round(right, 4), round(bottom, 4)))
    return tuple(sorted(boxes))


def _interval(first: float, second: float) -> tuple[float, float]:
    low, high = sorted((first, second))
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


def _elements(xml: bytes) -> dict[str, list[str]]:
    """Return the texts of the relevant elements, in document order.

    Entities can only be declared in a document type, which is refused, so nothing expands.
    """
    if len(xml) > MAX_XML_BYTES:
        raise _RefusedError(f"{len(xml)} bytes")
    texts: dict[str, list[str]] = {name: [] for name in (*_CORNERS, "width", "height", "name")}
    text: list[str] = []

    def start(name: str, _: object) -> None:
        text.clear()

    def end(name: str) -> None:
        if name in texts:
            texts[name].append("".join(text).strip())
        text.clear()

    def refuse(*_: object) -> None:
        raise _RefusedError("it declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(xml, True)
    except LookupError as error:
        raise _RefusedError(str(error)) from None
    return texts


class ArchivedBoxes:
    """The boxes of a whole `.tar.gz` of annotations, by base name of the image; it is read once.

    `ILSVRC2012_bbox_train_v2.tar.gz` holds `<synset>/<name>.xml`, possibly inside one more
    tar per synset; `ILSVRC2012_bbox_val_v3.tgz` holds `val/<name>.xml`. Each annotated image
    takes about 200 bytes of memory.
    """

    def __init__(self, path: str, known: Container[str], class_of: Callable[[str], str]) -> None:
        """Prepare to read an archive.

        Args:
            path: The archive.
            known: All classes.
            class_of: Function from a member's path, without extension, to its class.
        """
        self._path, self._known, self._class_of = path, known, class_of
        self._packed: dict[str, bytes] | None = None
        self._reading = threading.Lock()  # several classes may be listed at the same time

    def of(self, filename: str) -> tuple[Box, ...]:
        """Return the boxes of one image; none when it is not annotated.

        Raises:
            DataError: The archive is damaged.
        """
        with self._reading:
            if self._packed is None:
                self._packed = self._read()
        packed = self._packed.get(posixpath.splitext(filename)[0], b"")
        return tuple(struct.iter_unpack("<4d", packed))

    def _read(self) -> dict[str, bytes]:
        packed: dict[str, bytes] = {}
        with storage.open_read(self._path) as stream:
            for name, xml in _annotations(stream, self._path):
                path = posixpath.splitext(name)[0]
                boxes = boxes_of(xml, self._class_of(path), self._known, f"{name} in {self._path}")
                if boxes:
                    stem = posixpath.basename(path)
                    values = b"".join(struct.pack("<4d", *box) for box in boxes)
                    packed[stem] = packed.get(stem, b"") + values
        return packed


def _annotations(stream: IO[bytes], where: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of every XML file in a gzipped tar, and in the tars inside it."""
    with open_gzipped(stream, where) as unzipped:
        yield from _annotations_of_tar(unzipped, where)


def _annotations_of_tar(stream: IO[bytes], where: str) -> Iterator[tuple[str, bytes]]:
    for member in members(stream, where):
        name = posixpath.basename(member.name)
        if name.endswith(".xml"):
            if member.size > MAX_XML_BYTES:
                raise DataError(
                    f"{member.name} in {where} has {member.size} bytes, too many for an annotation"
                )
            yield member.name, read_member(stream, member)
        elif name.endswith((".tar", ".tar.gz", ".tgz")):
            if member.size > MAX_NESTED_BYTES:
                raise DataError(
                    f"{member.name} in {where} has {member.size} bytes, "
                    "too many for a nested archive"
                )
            nested = io.BytesIO(read_member(stream, member))
            inside = f"{member.name} in {where}"
            if name.endswith(".tar"):
                yield from _annotations_of_tar(nested, inside)
            else:
                yield from _annotations(nested, inside)
