"""References: the classes of a source, and the place of each image's bytes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from preprocessing.records.schema import ImageClass
from preprocessing.sources.ignored import IgnoredFiles

# xmin, ymin, xmax, ymax, relative to width and height, in [0, 1].
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageReference:
    """The place of one image's bytes, and its class.

    Attributes:
        key: `split/class/filename`, unique and the same for every layout of the source.
        path: File or archive that holds the image.
        offset: Offset of the image inside `path` in bytes.
        size: Size of the image in bytes.
        label: The label, 1..N.
        boxes: Boxes of objects of this class, cleaned (`preprocessing/sources/boxes.py`).
        version: Version of `path` (`preprocessing/storage/listing.py`); empty where unknown.
    """

    key: str
    path: str
    offset: int
    size: int
    label: int
    boxes: tuple[Box, ...] = ()
    version: str = ""

    @property
    def filename(self) -> str:
        """Base name, as in the record."""
        return posixpath.basename(self.key)


def classes_of(labels: Mapping[str, int], words: Mapping[str, str]) -> tuple[ImageClass, ...]:
    """Return the classes in label order; one without words is called by its name."""
    return tuple(
        ImageClass(index=index, synset=name, text=words.get(name, name))
        for name, index in labels.items()
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The images that an ingest reads.

    Attributes:
        classes: The classes in label order.
        description: Layout and files, for the manifest.
        listings: Per split, the function that starts a listing of its images; a source for
            evaluation alone has no `train`.
        ignored: Counter of the files that the listings skip.
        unread: Names in the source's folder that are not read.
    """

    classes: tuple[ImageClass, ...]
    description: dict[str, Any]
    listings: Mapping[str, Callable[[], Iterator[ImageReference]]]
    ignored: IgnoredFiles = field(default_factory=IgnoredFiles)
    unread: tuple[str, ...] = ()

    def images(self, split: str) -> Iterator[ImageReference]:
        """Yield the images of `split` in no particular order, without holding a list of them.

        Raises:
            DataError: An archive is damaged, or labels and images do not match.
        """
        return self.listings[split]()
