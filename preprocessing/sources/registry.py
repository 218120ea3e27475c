"""What images a user has, in which layout; detected from what is there."""

from __future__ import annotations

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.sources import archives, folders, kaggle
from preprocessing.sources.references import ImageReference, Source

__all__ = ["ImageReference", "Source", "find_source"]


def find_source(folder: str) -> Source:
    """Recognise the layout of `folder`, local or a URL.

    Labels are 1..N in sorted class order; 0 is the background and never present.

    Raises:
        UsageError: No layout, or an incomplete one; names what was looked for.
        DataError: Labels and images do not match, or a file is damaged.
    """
    if not storage.exists(folder):
        raise UsageError(f"source {folder} does not exist; pass the folder that holds the images")
    for layout in (archives, kaggle, folders):
        if layout.is_here(folder):
            return layout.find(folder)
    raise UsageError(
        f"source {folder} holds no images that are known here; looked for the official archives "
        f"({archives.TRAIN_ARCHIVE}, {archives.VALIDATION_ARCHIVE}, {archives.DEVKIT}), Kaggle's "
        f"download ({kaggle.DATA}/, {kaggle.SOLUTION}) and a folder per class "
        f"({folders.TRAIN}/<class>/ and {' or '.join(f'{n}/<class>/' for n in folders.VALIDATION)})"
    )
