"""Whether parsed JSON has the form of `dataset.json`; names the first place that has not.

A manifest comes from a bucket or a disk that others write to, and its file names become
paths: nothing of it is used before it was checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any, str], None]


class FormError(ValueError):
    """The first place that is wrong, and what is expected there."""


def whole_number(value: Any, where: str) -> None:
    """0, 1, 2, ..."""
    if type(value) is not int or value < 0:
        raise FormError(f"{where} is {value!r:.60}, expected a whole number")


def text(value: Any, where: str) -> None:
    """A string that UTF-8 can carry."""
    if not isinstance(value, str) or re.search("[\ud800-\udfff]", value):
        raise FormError(f"{where} is {value!r:.60}, expected text")


def sha256(value: Any, where: str) -> None:
    """64 hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise FormError(f"{where} is {value!r:.60}, expected a SHA-256 digest")


def mapping(value: Any, where: str) -> None:
    """A JSON object."""
    if not isinstance(value, dict):
        raise FormError(f"{where} is {value!r:.60}, expected an object")


def list_of(check: Check, length: int | None = None) -> Check:
    """A list whose elements pass `check`."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            size = "" if length is None else f" of {length}"
            raise FormError(f"{where} is {value!r:.60}, expected a list{size}")
        for number, each in enumerate(value):
            check(each, f"{where}[{number}]")

    return checked


def mapping_of(check: Check) -> Check:
    """An object whose values pass `check`."""

    def checked(value: Any, where: str) -> None:
        mapping(value, where)
        for name, each in value.items():
            text(name, where)
            check(each, f"{where}.{name}")

    return checked


def fields(**checks: Check) -> Check:
    """An object with exactly these fields."""

    def checked(value: Any, where: str) -> None:
        mapping(value, where)
        if value.keys() != checks.keys():
            odd = sorted(value.keys() ^ checks.keys())
            raise FormError(f"{where} lacks or adds {', '.join(map(repr, odd))[:60]}")
        for name, check in checks.items():
            check(value[name], f"{where}.{name}")

    return checked


def check_manifest(manifest: Any, splits: tuple[str, ...]) -> None:
    """Check everything that readers of `dataset.json` rely on.

    Args:
        manifest: What the JSON parsed to.
        splits: Names of the splits.

    Raises:
        FormError: Something is missing, of another type, or contradicts the rest.
    """
    counts = list_of(whole_number)
    bins = list_of(list_of(whole_number, length=2))
    split_statistics = fields(
        class_counts=counts,
        source_bytes=bins,
        short_sides=bins,
        most_pixels=whole_number,
        boxes=whole_number,
    )
    duplicates = fields(
        **dict.fromkeys((*splits, "between"), whole_number), named=list_of(list_of(text))
    )
    shards = list_of(fields(file=text, examples=whole_number, bytes=whole_number, sha256=sha256))
    fields(
        schema_version=whole_number,
        digest=sha256,
        fingerprint=sha256,
        classes=list_of(fields(index=whole_number, synset=text, text=text)),
        shards=fields(**dict.fromkeys(splits, shards)),
        rejects=list_of(fields(key=text, reason=text)),
        repaired=mapping_of(whole_number),
        record_offsets=sha256,
        statistics=fields(**dict.fromkeys(splits, split_statistics), duplicates=duplicates),
        source=mapping,
        options=mapping,
        versions=mapping_of(text),
    )(manifest, "the manifest")

    labels = [each["index"] for each in manifest["classes"]]
    if labels != list(range(1, len(labels) + 1)):
        raise FormError("the manifest.classes are not numbered 1, 2, ...")
    for split in splits:
        of_split = manifest["shards"][split]
        for number, shard in enumerate(of_split):
            if shard["file"] != f"{split}-{number:05d}-of-{len(of_split):05d}":
                raise FormError(f"the manifest.shards.{split}[{number}].file is another's name")
        examples = sum(shard["examples"] for shard in of_split)
        class_counts = manifest["statistics"][split]["class_counts"]
        if len(class_counts) != len(labels) or sum(class_counts) != examples:
            raise FormError(f"the manifest's {split} class counts contradict its shards")
