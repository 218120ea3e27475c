"""The registry of image sources. To add one, write its module and list it here."""

from __future__ import annotations

from typing import Protocol

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.sources import archives, folders, held_out, kaggle
from preprocessing.sources.references import Source


class SourceLayout(Protocol):
    """A layout that images can have; a module of this chapter is one.

    Attributes:
        LOOKED_FOR: The layout and its files, for the message about unknown folders.
    """

    LOOKED_FOR: str

    def is_here(self, folder: str) -> bool:
        """Return whether `folder`, local or a URL, looks like this layout."""

    def find(self, folder: str) -> Source:
        """Return what `folder` holds.

        Raises:
            UsageError: The layout is incomplete; the message names what was looked for.
            DataError: Labels and images do not match, or a file is damaged.
        """


# They are tried in this order.
LAYOUTS: list[SourceLayout] = [archives, kaggle, folders]


def find_source(folder: str, validation_fraction: float = 0.0) -> Source:
    """Recognise the layout of `folder`, local or a URL, and return what it holds.

    Labels are 1..N in sorted class order; 0 is the background and never present.

    Args:
        folder: The source.
        validation_fraction: Fraction of each class to hold out as validation images, for a folder
            per class that has none; 0 for a source that has them.

    Raises:
        UsageError: The folder has no known layout, or an incomplete one; the message names what
            was looked for.
        DataError: Labels and images do not match, or a file is damaged.
    """
    if not storage.exists(folder):
        raise UsageError(f"source {folder} does not exist; pass the folder that holds the images")
    if validation_fraction:
        return held_out.find(folder, validation_fraction)
    for layout in LAYOUTS:
        if layout.is_here(folder):
            return layout.find(folder)
    *others, last = (layout.LOOKED_FOR for layout in LAYOUTS)
    raise UsageError(
        f"source {folder} has no known layout; looked for {', '.join(others)} and {last}"
        + (f"; if its folders are classes, {folders.REMEDY}" if held_out.is_here(folder) else "")
    )
