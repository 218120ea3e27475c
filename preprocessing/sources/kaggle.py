"""The layout of Kaggle's ImageNet download (`imagenet-object-localization-challenge`), unpacked."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.sources import folders
from preprocessing.sources.archives import validation_number
from preprocessing.sources.boxes import boxes_of
from preprocessing.sources.ignored import IgnoredFiles, unread_in
from preprocessing.sources.references import ImageReference, Source, classes_of
from preprocessing.sources.words import KAGGLE_WORDS, WORDS, class_words, read_text
from preprocessing.storage.map_ahead import map_ahead

DATA = "ILSVRC/Data/CLS-LOC"
ANNOTATIONS = "ILSVRC/Annotations/CLS-LOC"
SOLUTION = "LOC_val_solution.csv"
LOOKED_FOR = f"Kaggle's download ({DATA}/, {SOLUTION})"


def is_here(folder: str) -> bool:
    """Return whether `folder` looks like this layout."""
    return storage.exists(storage.join(folder, DATA))


def find(folder: str) -> Source:
    """List the images of Kaggle's download.

    Raises:
        UsageError: A file is missing; the message names what was looked for.
        DataError: Labels and images do not match.
    """
    train, validation = (storage.join(folder, DATA, name) for name in ("train", "val"))
    solution = storage.join(folder, SOLUTION)
    missing = [path for path in (train, validation, solution) if not storage.exists(path)]
    if missing:
        raise UsageError(
            f"source {folder} has {DATA} but lacks {', '.join(missing)}; looked for "
            f"{DATA}/train/<synset>/, {DATA}/val/, {SOLUTION} and, if you have them, "
            f"{KAGGLE_WORDS} and {ANNOTATIONS}/"
        )
    names = folders.classes_in(train, IgnoredFiles())
    labels = {name: index for index, name in enumerate(names, start=1)}
    synsets = _solution(solution, labels)
    words = class_words(folder, labels)
    xml_folder = storage.join(folder, ANNOTATIONS)
    annotations = xml_folder if storage.exists(xml_folder) else None
    ignored = IgnoredFiles()
    return Source(
        classes=classes_of(labels, words),
        description={"layout": "Kaggle", "classes": len(labels), "boxes": annotations is not None},
        listings={
            "train": partial(_train_images, train, labels, annotations, ignored),
            "validation": partial(
                _validation_images, validation, synsets, labels, annotations, ignored=ignored
            ),
        },
        ignored=ignored,
        unread=unread_in(folder, {*WORDS, SOLUTION, DATA.split("/")[0]}),
    )


def _solution(path: str, labels: dict[str, int]) -> dict[str, str]:
    """Return the synset of each image: the first word of `PredictionString`, before its boxes."""
    try:
        rows = list(csv.reader(io.StringIO(read_text(path)), strict=True))
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file ({error})") from None
    if not rows or rows[0] != ["ImageId", "PredictionString"]:
        raise DataError(f"{path} does not begin with ImageId,PredictionString; download it again")
    synsets: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        words = row[1].split() if len(row) == 2 else []
        if not words or not validation_number(row[0], 10**8):
            raise DataError(
                f"{path} line {number} is {','.join(row)!r}; expected an image and its boxes"
            )
        if words[0] not in labels:
            raise DataError(f"{path} line {number} names {words[0]}, which has no training images")
        if row[0] in synsets:
            raise DataError(f"{path} line {number} names {row[0]} a second time")
        synsets[row[0]] = words[0]
    return synsets


def _train_images(
    folder: str, labels: dict[str, int], annotations: str | None, ignored: IgnoredFiles
) -> Iterator[ImageReference]:
    def of_class(synset: str) -> list[ImageReference]:
        class_folder, label = storage.join(folder, synset), labels[synset]
        listed = folders.images_in(class_folder, "train", synset, label, ignored)
        if not annotations:
            return listed
        xml_folder = storage.join(annotations, "train", synset)
        xml_names = frozenset(storage.list_names(xml_folder))
        return [
            _with_boxes(reference, synset, xml_folder, xml_names, labels) for reference in listed
        ]

    for references in map_ahead(of_class, labels, folder):
        yield from references


def _validation_images(
    folder: str,
    synsets: dict[str, str],
    labels: dict[str, int],
    annotations: str | None,
    *,
    ignored: IgnoredFiles,
) -> Iterator[ImageReference]:
    xml_folder = storage.join(annotations or "", "val")
    xml_names = frozenset(storage.list_names(xml_folder) if annotations else ())

    def of_file(entry: storage.Entry) -> ImageReference:
        stem, extension = posixpath.splitext(entry.name)
        if entry.is_folder or extension != ".JPEG" or stem not in synsets:
            raise DataError(
                f"{folder} holds {entry.name!r}, of which {SOLUTION} says nothing; expected "
                "ILSVRC2012_val_00000001.JPEG and so on"
            )
        synset = synsets[stem]
        reference = ImageReference(
            f"validation/{synset}/{entry.name}",
            storage.join(folder, entry.name),
            0,
            entry.size,
            labels[synset],
            version=entry.version,
        )
        return _with_boxes(reference, synset, xml_folder, xml_names, labels)

    listed = folders.entries(folder, ignored)
    if len(listed) != len(synsets):
        raise DataError(f"{folder} holds {len(listed)} images but {SOLUTION} lists {len(synsets)}")
    yield from map_ahead(of_file, listed, folder)


def _with_boxes(
    reference: ImageReference,
    synset: str,
    xml_folder: str,
    xml_names: frozenset[str],
    labels: dict[str, int],
) -> ImageReference:
    name = f"{posixpath.splitext(reference.filename)[0]}.xml"
    if name not in xml_names:
        return reference
    path = storage.join(xml_folder, name)
    return replace(reference, boxes=boxes_of(storage.read_bytes(path), synset, labels, path))
