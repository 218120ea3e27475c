"""Descriptions of classes by synset, from the file that the source holds."""

from __future__ import annotations

from preprocessing import storage
from preprocessing.errors import DataError

# "synset<TAB>words" per line; slim's datasets folder carries it.
SYNSET_WORDS = "imagenet_metadata.txt"
# "synset words" per line; Kaggle's download carries it.
KAGGLE_WORDS = "LOC_synset_mapping.txt"


def read_text(path: str) -> str:
    """Return a whole text file.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return storage.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from None


def class_words(folder: str) -> dict[str, str]:
    """Return the descriptions by synset; none when the source has no such file.

    Raises:
        DataError: The file is not text.
    """
    for name, separator in ((SYNSET_WORDS, "\t"), (KAGGLE_WORDS, " ")):
        path = storage.join(folder, name)
        if storage.exists(path):
            lines = (line.partition(separator) for line in read_text(path).splitlines())
            return {synset: words.strip() for synset, _, words in lines if words.strip()}
    return {}
