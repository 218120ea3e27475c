"""What ingest needs to know of a source: its classes, and where the bytes of each image are."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from preprocessing.records.schema import ImageClass

# xmin, ymin, xmax, ymax, relative to width and height, 0 to 1.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where the bytes of one image are, and what it shows.

    Attributes:
        key: Unique and the same wherever the image comes from: `split/class/filename`.
        path: File or archive that holds it.
        offset: Byte offset of the image inside `path`.
        size: Bytes.
        label: 1..N.
        boxes: Of objects of this class, cleaned (`preprocessing/sources/boxes.py`).
    """

    key: str
    path: str
    offset: int
    size: int
    label: int
    boxes: tuple[Box, ...] = ()

    @property
    def filename(self) -> str:
        """Base name, as the record carries it."""
        return posixpath.basename(self.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Everything that can be ingested.

    Attributes:
        classes: In label order.
        description: Layout and files, for the manifest.
        listings: Per split, what starts a listing of its images.
    """

    classes: tuple[ImageClass, ...]
    description: dict[str, Any]
    listings: Mapping[str, Callable[[], Iterator[ImageReference]]]

    def images(self, split: str) -> Iterator[ImageReference]:
        """List `split` from its start, without holding the list; in no promised order.

        Raises:
            DataError: An archive is damaged, or labels and images do not match.
        """
        return self.listings[split]()
