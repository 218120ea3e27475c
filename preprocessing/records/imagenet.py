"""What the real ImageNet (ILSVRC2012, classification) holds, to tell a whole copy from another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preprocessing.records.schema import Manifest

NUM_CLASSES = 1000
NUM_TRAIN_IMAGES = 1_281_167
NUM_IMAGES = {"train": NUM_TRAIN_IMAGES, "validation": 50_000}
# slim's datasets/build_imagenet_data.py, _is_png and _is_cmyk
REPAIRED = {"PNG": 1, "CMYK JPEG": 22}
VALIDATION_PER_CLASS = 50


def looks_like_imagenet(synsets: Sequence[str]) -> bool:
    """Whether these are about a thousand WordNet nouns, so that the totals should be right."""
    nouns = sum(bool(re.fullmatch(r"n\d{8}", synset)) for synset in synsets)
    return nouns == len(synsets) and 0.9 * NUM_CLASSES <= nouns <= 1.1 * NUM_CLASSES


def differences(manifest: Manifest) -> list[str]:
    """Where a records folder is not made of exactly the real ImageNet; empty when it is."""
    found = []

    def expect(what: str, here: Any, expected: Any) -> None:
        if here != expected:
            found.append(f"{what}: {here}, ImageNet has {expected}")

    expect("classes", len(manifest.classes), NUM_CLASSES)
    for split, expected in NUM_IMAGES.items():
        expect(f"{split} images", manifest.num_examples(split), expected)
    for kind in sorted({*REPAIRED, *manifest.repaired}):
        expect(f"{kind} repaired", manifest.repaired.get(kind, 0), REPAIRED.get(kind, 0))
    expect("rejected images", len(manifest.rejects), 0)
    counts = manifest.statistics["validation"]["class_counts"]
    uneven = sum(count != VALIDATION_PER_CLASS for count in counts)
    expect(f"classes without exactly {VALIDATION_PER_CLASS} validation images", uneven, 0)
    return found


def verdict(manifest: Manifest) -> dict[str, Any] | None:
    """`{"confirmed": ..., "differences": [...]}`; None when these are other images."""
    if not looks_like_imagenet([each.synset for each in manifest.classes]):
        return None
    found = differences(manifest)
    return {"confirmed": not found, "differences": found}
