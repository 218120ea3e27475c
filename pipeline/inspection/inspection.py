"""`mobilenet inspect`: the content of a records folder in numbers and pictures."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from pipeline.inspection import contact_sheet
from pipeline.inspection.contact_sheet import Picture
from pipeline.inspection.histograms import draw_histograms
from preprocessing import storage
from preprocessing.records import imagenet, schema, verify
from preprocessing.records.records_folder import read_at
from preprocessing.records.schema import SPLITS, Manifest
from preprocessing.storage import contracts
from training.config import RunConfig

logger = logging.getLogger(__name__)

HISTOGRAMS = "histograms.png"
CONTACT_SHEET = "contact-sheet-{split}.png"
AUGMENTED_SHEET = "contact-sheet-augmented.png"
NUM_PICTURES = 48
MAX_LISTED_CLASSES = 20  # in the lines for people; the JSON lists all


def inspect(
    records: str, output: str, *, verify_bytes: bool, config: RunConfig | None = None
) -> dict[str, Any]:
    """Summarize `records`, and draw pictures of them into the folder `output`.

    Args:
        records: Folder that `prepare` wrote, local or a URL.
        output: Folder for the pictures, local or a URL.
        verify_bytes: Read every shard and compare all digests.
        config: Also draw training images as this run would augment them; needs TensorFlow.

    Raises:
        UsageError: The folder holds no complete records.
        DataError: The records differ from their manifest.
    """
    manifest = Manifest.read(records)
    verify.check_sizes(records, manifest)
    if verify_bytes:
        verify.verify(records, manifest)
    result = {"records": records, "verified": verify_bytes, **summary(manifest)}
    logger.info("%s", table(manifest))
    result["pictures"] = draw(records, manifest, output, config)
    return result


def summary(manifest: Manifest) -> dict[str, Any]:
    """Return all counts, for programs."""
    by_split = {split: manifest.statistics.of(split) for split in SPLITS}
    verdict = imagenet.verdict(manifest)
    return {
        "digest": manifest.digest,
        "source": manifest.source,
        "options": manifest.options,
        "classes": len(manifest.classes),
        "examples": {split: manifest.num_examples(split) for split in SPLITS},
        "shards": {split: len(manifest.shards[split]) for split in SPLITS},
        "bytes": {split: sum(shard.bytes for shard in manifest.shards[split]) for split in SPLITS},
        "class_counts": {
            named.synset: [by_split[split].class_counts[named.index - 1] for split in SPLITS]
            for named in manifest.classes
        },
        "source_bytes": {split: counts.source_bytes for split, counts in by_split.items()},
        "short_sides": {split: counts.short_sides for split, counts in by_split.items()},
        "most_pixels": {split: counts.most_pixels for split, counts in by_split.items()},
        "boxes": {split: counts.boxes for split, counts in by_split.items()},
        "oriented": {split: counts.oriented for split, counts in by_split.items()},
        "repaired": manifest.repaired,
        "rejected": [[reject.key, reject.reason] for reject in manifest.rejects],
        "duplicates": contracts.to_json(manifest.statistics.duplicates),
        "imagenet": contracts.to_json(verdict) if verdict else None,
    }


def table(manifest: Manifest) -> str:
    """Return the counts for people: a few lines, and the rarest and most frequent classes."""
    lines = []
    for split in SPLITS:
        statistics = manifest.statistics.of(split)
        num_bytes = sum(shard.bytes for shard in manifest.shards[split])
        counts = sorted(statistics.class_counts)
        lines.append(
            f"{split:<11} {manifest.num_examples(split):>10,} images {num_bytes / 1e9:>8.2f} GB "
            f"{len(manifest.shards[split]):>5} shards  per class {counts[0]:,} to {counts[-1]:,}, "
            f"median {counts[len(counts) // 2]:,}  largest {statistics.most_pixels / 1e6:.1f} "
            f"megapixels  {statistics.boxes:,} boxes"
        )
    for kind, count in manifest.repaired.items():
        lines.append(f"repaired    {count:>10,} {kind}")
    for reason, count in Counter(reject.reason for reject in manifest.rejects).most_common():
        lines.append(f"rejected    {count:>10,} {reason}")
    duplicates = manifest.statistics.duplicates.counts()
    for where, text in (
        ("train", "more than once in train"),
        ("validation", "more than once in validation"),
        ("between", "validation images that are also in train"),
    ):
        if duplicates[where]:
            lines.append(f"duplicates  {duplicates[where]:>10,} {text}")
    verdict = imagenet.verdict(manifest)
    if verdict:
        lines.append(
            "ImageNet    " + ("; ".join(verdict.differences) or "all totals are those expected")
        )
    return "\n".join([*lines, "", *_class_lines(manifest)])


def _class_lines(manifest: Manifest) -> list[str]:
    counts = [manifest.statistics.of(split).class_counts for split in SPLITS]
    rows = [
        f"{train:>9,} {validation:>10,}  {named.synset} {named.text[:60]}"
        for named, train, validation in zip(manifest.classes, *counts, strict=True)
    ]
    head = f"{'train':>9} {'validation':>10}  class"
    if len(rows) <= MAX_LISTED_CLASSES:
        return [head, *rows]
    by_count = sorted(range(len(rows)), key=lambda index: (counts[0][index], index))
    half = MAX_LISTED_CLASSES // 2
    return [
        head,
        *(rows[index] for index in by_count[:half]),
        f"{'...':>9} {'...':>10}  {len(rows) - 2 * half:,} classes between",
        *(rows[index] for index in by_count[-half:]),
    ]


def draw(records: str, manifest: Manifest, output: str, config: RunConfig | None) -> list[str]:
    """Write the pictures and return their paths."""
    storage.make_folder(output)
    drawn = {HISTOGRAMS: draw_histograms(manifest)}
    for split in SPLITS:
        if not manifest.num_examples(split):
            continue
        chosen = choose(records, manifest, split)
        title = (
            f"{split}: {len(chosen)} of {manifest.num_examples(split):,} images of "
            f"{len(manifest.classes):,} classes"
        )
        drawn[CONTACT_SHEET.format(split=split)] = contact_sheet.contact_sheet(chosen, title)
        if config and split == "train":
            from pipeline.inspection.augmented import augmented

            views = augmented(chosen, config, config.variant.resolution)
            title = f"{len(views)} of them as {config.variant} sees them in training"
            drawn[AUGMENTED_SHEET] = contact_sheet.contact_sheet(views, title)
    for name, content in drawn.items():
        storage.write_bytes(storage.join(output, name), content)
    return [storage.join(output, name) for name in drawn]


def choose(records: str, manifest: Manifest, split: str) -> list[Picture]:
    """Return up to 48 images, evenly spread over the records, ordered by label.

    The records are in random order, so this is a random sample; it is the same every time.
    """
    shard_index, offsets = schema.read_record_offsets(records, manifest, split)
    count = min(NUM_PICTURES, len(offsets))
    chosen = []
    for place in range(count):
        number = len(offsets) * place // count
        path = storage.join(records, manifest.shards[split][shard_index[number]].file)
        with storage.open_read(path) as stream:
            chosen.append(Picture(read_at(stream, int(offsets[number]), path)))
    return sorted(
        chosen,
        key=lambda picture: (picture.features[schema.LABEL], picture.features[schema.FILENAME]),
    )
