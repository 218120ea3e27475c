"""The layout of a folder per class: `train/<class>/*` and `validation/<class>/*`, plain files."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterator
from functools import partial

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.sources.ignored import IgnoredFiles, unread_in
from preprocessing.sources.names import checked_name
from preprocessing.sources.references import ImageReference, Source, classes_of
from preprocessing.sources.words import WORDS, class_words
from preprocessing.storage import Entry
from preprocessing.storage.map_ahead import map_ahead

TRAIN = "train"
VALIDATION = ("validation", "val")
REMEDY = "pass --validation-fraction 0.1 to hold out a tenth of each class"
LOOKED_FOR = (
    f"a folder per class ({TRAIN}/<class>/ and "
    f"{' or '.join(f'{name}/<class>/' for name in VALIDATION)})"
)


def entries(folder: str, ignored: IgnoredFiles) -> list[Entry]:
    """Return the entries of a folder without files of operating systems; links are followed."""
    return [entry for entry in storage.list_entries(folder) if ignored.keeps(entry.name)]


def classes_in(folder: str, ignored: IgnoredFiles, beside: Container[str] = ()) -> list[str]:
    """Return the sorted names of the class folders in `folder`.

    Args:
        folder: Folder of the classes.
        ignored: Counter of the skipped files.
        beside: Files that may lie beside the classes.

    Raises:
        DataError: The folder has none, or holds something else as well.
    """
    listed = [entry for entry in entries(folder, ignored) if entry.name not in beside]
    stray = [entry.name for entry in listed if not entry.is_folder]
    if stray:
        raise DataError(
            f"{folder} holds the file {stray[0]!r}; "
            "expected one folder per class, with images in it"
        )
    if not listed:
        raise DataError(f"{folder} is empty; expected one folder per class, with images in it")
    return [checked_name(entry.name, folder) for entry in listed]


def images_in(
    folder: str, split: str, name: str, label: int, ignored: IgnoredFiles
) -> list[ImageReference]:
    """Return references to the files of one class.

    Args:
        folder: Folder that holds the images of this class only.
        split: Split in the keys.
        name: Name of the class.
        label: Label of the class, 1..N.
        ignored: Counter of the skipped files.

    Raises:
        DataError: The folder holds another folder, or a class has no training images.
    """
    references = []
    for entry in entries(folder, ignored):
        if entry.is_folder:
            raise DataError(f"{folder} holds the folder {entry.name!r}; expected images only")
        key, path = f"{split}/{name}/{entry.name}", storage.join(folder, entry.name)
        references.append(ImageReference(key, path, 0, entry.size, label, version=entry.version))
    if not references and split == "train":
        raise DataError(
            f"{folder} holds no images, so its class would be a label without examples; "
            "remove the folder or add images"
        )
    return references


def is_here(folder: str) -> bool:
    """Return whether `folder` looks like this layout."""
    return storage.exists(storage.join(folder, TRAIN))


def validation_in(folder: str) -> list[str]:
    """Return the folders of validation images that `folder` has."""
    paths = [storage.join(folder, name) for name in VALIDATION]
    return [path for path in paths if storage.exists(path)]


def find(folder: str) -> Source:
    """List the images of a folder per class.

    Raises:
        UsageError: The validation images are missing; the message names what was looked for.
        DataError: The folders hold something other than class folders.
    """
    train = storage.join(folder, TRAIN)
    existing = validation_in(folder)
    if len(existing) > 1:
        raise UsageError(
            f"source {folder} has {' and '.join(existing)}; remove or rename the one that is not "
            "the validation set"
        )
    if not existing:
        raise UsageError(
            f"source {folder} has {TRAIN}/ but neither of {VALIDATION[0]}/ and {VALIDATION[1]}/; "
            f"expected one folder per class in each, or {REMEDY}"
        )
    (validation,) = existing
    names = classes_in(train, IgnoredFiles())
    labels = {name: index for index, name in enumerate(names, start=1)}
    in_validation = classes_in(validation, IgnoredFiles())
    refuse_two_spellings(sorted({*names, *in_validation}), folder)
    unknown = sorted(set(in_validation) - labels.keys())
    if unknown:
        raise DataError(
            f"{validation} has class {unknown[0]!r}, which {train} lacks; "
            "remove it or add training images"
        )
    words = class_words(folder, names)
    ignored = IgnoredFiles()
    return Source(
        classes=classes_of(labels, words),
        description={"layout": "folder per class", "classes": len(names)},
        listings={
            "train": partial(_images, train, "train", labels, ignored),
            "validation": partial(_images, validation, "validation", labels, ignored),
        },
        ignored=ignored,
        unread=unread_in(folder, {TRAIN, *VALIDATION, *WORDS}),
    )


def refuse_two_spellings(names: list[str], folder: str) -> None:
    """Refuse names that look alike but differ in bytes, as different systems write accents."""
    spellings: dict[str, str] = {}
    for name in names:
        normal = unicodedata.normalize("NFC", name)
        if normal in spellings:
            raise DataError(
                f"{folder} spells class {normal!r} in two ways of Unicode, "
                f"{spellings[normal].encode()!r} and {name.encode()!r}; rename one of them"
            )
        spellings[normal] = name


def _images(
    folder: str, split: str, labels: dict[str, int], ignored: IgnoredFiles
) -> Iterator[ImageReference]:
    def of_class(name: str) -> list[ImageReference]:
        return images_in(storage.join(folder, name), split, name, labels[name], ignored)

    for references in map_ahead(of_class, classes_in(folder, ignored), folder):
        yield from references
