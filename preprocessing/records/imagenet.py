"""Totals of the real ImageNet (ILSVRC2012, classification), which tell a whole copy from others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preprocessing.records.schema import Manifest

NUM_CLASSES = 1000
NUM_TRAIN_IMAGES = 1_281_167
NUM_IMAGES = {"train": NUM_TRAIN_IMAGES, "validation": 50_000}
# slim's datasets/build_imagenet_data.py, _is_png and _is_cmyk
REPAIRED = {"PNG": 1, "CMYK JPEG": 22}
VALIDATION_PER_CLASS = 50


def looks_like_imagenet(synsets: Sequence[str]) -> bool:
    """Return whether these are about a thousand WordNet nouns, so that the totals should match."""
    nouns = sum(bool(re.fullmatch(r"n\d{8}", synset)) for synset in synsets)
    return nouns == len(synsets) and 0.9 * NUM_CLASSES <= nouns <= 1.1 * NUM_CLASSES


def differences(manifest: Manifest) -> list[str]:
    """Return the differences from the real ImageNet; none for records of a whole copy."""
    named = []

    def expect(quantity: str, counted: int, expected: int) -> None:
        if counted != expected:
            named.append(f"{quantity}: {counted}, ImageNet has {expected}")

    expect("classes", len(manifest.classes), NUM_CLASSES)
    for split, expected in NUM_IMAGES.items():
        expect(f"{split} images", manifest.num_examples(split), expected)
    for kind in sorted({*REPAIRED, *manifest.repaired}):
        expect(f"{kind} repaired", manifest.repaired.get(kind, 0), REPAIRED.get(kind, 0))
    expect("rejected images", len(manifest.rejects), 0)
    counts = manifest.statistics.validation.class_counts
    uneven = sum(count != VALIDATION_PER_CLASS for count in counts)
    expect(f"classes without exactly {VALIDATION_PER_CLASS} validation images", uneven, 0)
    return named


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The comparison of records with the real ImageNet."""

    confirmed: bool
    differences: tuple[str, ...]


def verdict(manifest: Manifest) -> Verdict | None:
    """Return the comparison with the real ImageNet; None when these are other images."""
    if not looks_like_imagenet([image_class.synset for image_class in manifest.classes]):
        return None
    found = differences(manifest)
    return Verdict(confirmed=not found, differences=tuple(found))
