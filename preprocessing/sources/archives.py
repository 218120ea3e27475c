"""The layout of the official ILSVRC2012 archives, which are read in place and never unpacked.

`ILSVRC2012_img_train.tar` is a tar of one tar per synset, `ILSVRC2012_img_val.tar` is
flat. Only tar headers are read here; images are read later, by offset. The validation archive
without the training archive is a source for evaluation alone.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterator
from functools import partial

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.sources.boxes import ArchivedBoxes
from preprocessing.sources.devkit import DEVKIT, read_devkit
from preprocessing.sources.ignored import IgnoredFiles, unread_in
from preprocessing.sources.names import checked_name, printable
from preprocessing.sources.references import Box, ImageReference, Source, classes_of
from preprocessing.sources.tar import Member, members
from preprocessing.sources.words import SYNSET_WORDS, WORDS, class_words, read_text
from preprocessing.storage.map_ahead import map_ahead

logger = logging.getLogger(__name__)

TRAIN_ARCHIVE = "ILSVRC2012_img_train.tar"
VALIDATION_ARCHIVE = "ILSVRC2012_img_val.tar"
# Line i holds the synset of ILSVRC2012_val_{i:08d}.JPEG; the file is in slim's datasets folder.
VALIDATION_LABELS = "imagenet_2012_validation_synset_labels.txt"
TRAIN_BOXES = "ILSVRC2012_bbox_train_v2.tar.gz"
VALIDATION_BOXES = "ILSVRC2012_bbox_val_v3.tgz"

BoxesOf = Callable[[str], tuple[Box, ...]]
LOOKED_FOR = f"the official archives ({TRAIN_ARCHIVE}, {VALIDATION_ARCHIVE}, {DEVKIT})"


def is_here(folder: str) -> bool:
    """Return whether `folder` holds one of the archives."""
    return any(
        storage.exists(storage.join(folder, name)) for name in (TRAIN_ARCHIVE, VALIDATION_ARCHIVE)
    )


def find(folder: str) -> Source:
    """List the images of the archives in `folder`.

    Raises:
        UsageError: A file is missing; the message names what was looked for.
        DataError: An archive is damaged, or labels and images do not match.
    """
    exists = {
        name: storage.exists(storage.join(folder, name))
        for name in (
            TRAIN_ARCHIVE,
            VALIDATION_ARCHIVE,
            DEVKIT,
            VALIDATION_LABELS,
            TRAIN_BOXES,
            VALIDATION_BOXES,
        )
    }
    missing = [] if exists[VALIDATION_ARCHIVE] else [VALIDATION_ARCHIVE]
    if not exists[DEVKIT] and not exists[VALIDATION_LABELS]:
        missing.append(f"{DEVKIT} (or {VALIDATION_LABELS})")
    if missing:
        raise UsageError(
            f"source {folder} lacks {', '.join(missing)}; looked for the official archives: "
            f"{TRAIN_ARCHIVE}, {VALIDATION_ARCHIVE}, {DEVKIT}, and, if you have them, "
            f"{TRAIN_BOXES}, {VALIDATION_BOXES}, {SYNSET_WORDS}"
        )
    validation_synsets, labels_path, words = _validation_synsets(folder, exists)
    train = storage.join(folder, TRAIN_ARCHIVE)
    if exists[TRAIN_ARCHIVE]:
        archives = _synset_archives(train, IgnoredFiles())
        synsets = sorted({_synset(member, train) for member in archives})
    else:
        synsets = sorted({*words, *validation_synsets})
        logger.warning(
            "prepare: %s lacks %s, so its records have no training images and serve for "
            "evaluation alone",
            folder,
            TRAIN_ARCHIVE,
        )
    labels = {synset: index for index, synset in enumerate(synsets, start=1)}
    words = {**words, **class_words(folder, set(synsets) - words.keys())}
    _refuse_unknown(validation_synsets, labels, labels_path)
    ignored = IgnoredFiles()
    boxes = _boxes(folder, exists, validation_synsets, labels)
    listings: dict[str, Callable[[], Iterator[ImageReference]]] = {
        "validation": partial(
            _validation_images,
            storage.join(folder, VALIDATION_ARCHIVE),
            validation_synsets,
            labels,
            labels_path,
            boxes["validation"],
            ignored=ignored,
        )
    }
    if exists[TRAIN_ARCHIVE]:
        listings["train"] = partial(_train_images, train, labels, boxes["train"], ignored)
    return Source(
        classes=classes_of(labels, words),
        description={
            "layout": "ILSVRC2012 archives",
            "files": {
                name: storage.size_bytes(storage.join(folder, name))
                for name, is_present in exists.items()
                if is_present
            },
        },
        listings=listings,
        ignored=ignored,
        unread=unread_in(folder, {*WORDS, *exists}),
    )


def _validation_synsets(
    folder: str, exists: dict[str, bool]
) -> tuple[list[str], str, dict[str, str]]:
    """Return the synsets of validation images 1, 2, ..., their file, and the kit's class words."""
    listed: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    if exists[DEVKIT]:
        path = storage.join(folder, DEVKIT)
        kit = read_devkit(path)
        listed[path], words = kit.validation, kit.words
    if exists[VALIDATION_LABELS]:
        path = storage.join(folder, VALIDATION_LABELS)
        listed[path] = read_text(path).split()
    if len({tuple(synsets) for synsets in listed.values()}) > 1:
        raise DataError(
            f"{' and '.join(listed)} do not agree on the validation images; remove the wrong one"
        )
    path, synsets = next(iter(listed.items()))
    return synsets, path, words


def _refuse_unknown(synsets: list[str], labels: dict[str, int], path: str) -> None:
    for number, synset in enumerate(synsets, start=1):
        if synset not in labels:
            raise DataError(f"{path} line {number} names {synset}, which has no training images")


def _boxes(
    folder: str, exists: dict[str, bool], validation_synsets: list[str], labels: dict[str, int]
) -> dict[str, BoxesOf]:
    """Return, per split, the function from file name to boxes."""

    def train_class(path: str) -> str:
        return posixpath.basename(posixpath.dirname(path))

    def validation_class(path: str) -> str:
        number = validation_number(posixpath.basename(path), len(validation_synsets))
        return validation_synsets[number - 1] if number else ""

    boxes_of: dict[str, BoxesOf] = {}
    for split, name, class_of in (
        ("train", TRAIN_BOXES, train_class),
        ("validation", VALIDATION_BOXES, validation_class),
    ):
        if exists[name]:
            boxes_of[split] = ArchivedBoxes(storage.join(folder, name), labels, class_of).of
        else:
            boxes_of[split] = _no_boxes
    return boxes_of


def _no_boxes(filename: str) -> tuple[Box, ...]:
    return ()


def validation_number(stem: str, count: int) -> int:
    """Return `i` of `ILSVRC2012_val_{i:08d}`; 0 for another name or a number above `count`."""
    matched = re.fullmatch(r"ILSVRC2012_val_(\d{8})", stem, re.ASCII)
    number = int(matched[1]) if matched else 0
    return number if number <= count else 0


def _synset_archives(path: str, ignored: IgnoredFiles) -> list[Member]:
    size = storage.size_bytes(path)
    with storage.open_read(path, ahead=False) as stream:
        archives = list(members(stream, path, end=size, ignored=ignored))
    if not archives:
        raise DataError(f"{path} is empty; expected one tar per synset inside")
    return archives


def _synset(member: Member, path: str) -> str:
    synset, extension = posixpath.splitext(posixpath.basename(member.name))
    if extension != ".tar":
        raise DataError(
            f"{path} holds {printable(member.name)}; expected one tar per synset, such as "
            "n01440764.tar"
        )
    return checked_name(synset, path)


def _train_images(
    path: str, labels: dict[str, int], boxes_of: BoxesOf, ignored: IgnoredFiles
) -> Iterator[ImageReference]:
    version = storage.version_of(path)

    def of_synset(outer: Member) -> list[ImageReference]:
        synset = _synset(outer, path)
        where = f"{printable(outer.name)} in {path}"
        with storage.open_read(path) as stream:
            end = outer.offset + outer.size
            listed = list(members(stream, where, outer.offset, end, ignored=ignored))
        if not listed:
            raise DataError(f"{where} holds no images")
        return [
            ImageReference(
                f"train/{synset}/{(name := posixpath.basename(inner.name))}",
                path,
                inner.offset,
                inner.size,
                labels[synset],
                boxes_of(name),
                version,
            )
            for inner in listed
        ]

    for references in map_ahead(of_synset, _synset_archives(path, ignored), path):
        yield from references


def _validation_images(
    path: str,
    synsets: list[str],
    labels: dict[str, int],
    labels_path: str,
    boxes_of: BoxesOf,
    *,
    ignored: IgnoredFiles,
) -> Iterator[ImageReference]:
    count = 0
    version = storage.version_of(path)
    with storage.open_read(path) as stream:
        size = storage.size_bytes(path)
        for member in members(stream, path, end=size, ignored=ignored):
            name = posixpath.basename(member.name)
            stem, extension = posixpath.splitext(name)
            number = validation_number(stem, len(synsets))
            if not number or extension != ".JPEG":
                raise DataError(
                    f"{path} holds {printable(member.name)}; expected "
                    "ILSVRC2012_val_00000001.JPEG to "
                    f"ILSVRC2012_val_{len(synsets):08d}.JPEG, as {labels_path} has so many lines"
                )
            synset = synsets[number - 1]
            count += 1
            yield ImageReference(
                f"validation/{synset}/{name}",
                path,
                member.offset,
                member.size,
                labels[synset],
                boxes_of(name),
                version,
            )
    if count != len(synsets):
        raise DataError(
            f"{path} holds {count} images but {labels_path} has {len(synsets)} lines; "
            "they must match line by line"
        )
