"""Descriptions of classes by synset, from the file that the source holds."""

from __future__ import annotations

import logging
from collections.abc import Collection

from preprocessing import storage
from preprocessing.errors import DataError

logger = logging.getLogger(__name__)

# "synset<TAB>words" per line; slim's datasets folder carries it.
SYNSET_WORDS = "imagenet_metadata.txt"
# "synset words" per line; Kaggle's download carries it.
KAGGLE_WORDS = "LOC_synset_mapping.txt"
WORDS = (KAGGLE_WORDS, SYNSET_WORDS)  # the last one that describes a class decides


def read_text(path: str) -> str:
    """Return a whole text file, without the byte order mark that some editors write.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return storage.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from None


def class_words(folder: str, synsets: Collection[str]) -> dict[str, str]:
    """Return the descriptions by synset; none when the source has no such file.

    A line is a synset, a tab or spaces, and the description. Lines end at LF or CRLF and
    nowhere else, because descriptions may hold other separators of Unicode. How many of
    `synsets` the file does not name is logged.

    Raises:
        DataError: The file is not text.
    """
    paths = [storage.join(folder, name) for name in WORDS]
    paths = [path for path in paths if storage.exists(path)]
    words: dict[str, str] = {}
    for path in paths:
        words.update(filter(None, map(_entry, read_text(path).split("\n"))))
    unnamed = sorted(set(synsets) - words.keys())
    if paths and unnamed:
        logger.warning(
            "prepare: %s does not describe %d of %d classes, first %s; they keep their names",
            " or ".join(paths),
            len(unnamed),
            len(synsets),
            unnamed[0],
        )
    return words


def _entry(line: str) -> tuple[str, str] | None:
    """Return synset and description of a line; None without a description."""
    line = line.strip(" \t\r")
    synset, _, words = line.partition("\t" if "\t" in line else " ")
    words = words.strip(" \t")
    return (synset.rstrip(" "), words) if words else None
