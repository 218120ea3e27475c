"""`mobilenet prepare`: image archives to TFRecords."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from pipeline.cli import flags
from pipeline.cli.command import Command, Result

if TYPE_CHECKING:
    from preprocessing.records.schema import Manifest

IMBALANCE = 3  # times as many images as another class

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", required=True, help="folder of the archives")
    parser.add_argument("--records", required=True, help="folder to write")
    for split, most in (("train", 1024), ("validation", 128)):
        parser.add_argument(
            f"--{split}-shards",
            type=flags.positive,
            default=0,
            help=f"number of {split} shards [{most}, fewer for small data]",
        )
    parser.add_argument(
        "--validation-fraction",
        type=flags.part,
        default=0.0,
        metavar="F",
        help="hold out this fraction of each class as validation images, for a folder per class "
        "that has none; the draw follows from class and file name",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the global shuffle [0]")
    parser.add_argument(
        "--max-rejects", type=flags.natural, default=100, help="unreadable images to accept [100]"
    )
    parser.add_argument(
        "--decode-check", action="store_true", help="decode every pixel, to find all damage"
    )
    parser.add_argument(
        "--short-side",
        type=flags.positive,
        default=0,
        metavar="N",
        help="shrink images to N pixels on the shorter side [keep the original bytes]",
    )
    parser.add_argument(
        "--quality",
        type=flags.quality,
        default=90,
        help="quality of the JPEGs that --short-side makes [90]",
    )
    parser.add_argument(
        "--apply-orientation",
        action="store_true",
        help="turn images upright by their EXIF orientation [keep the stored pixels]",
    )
    parser.add_argument(
        "--workers", type=flags.positive, default=0, help="local processes [one more than cores]"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="write the records again, whatever the folder holds of them",
    )


def _run(arguments: argparse.Namespace) -> Result:
    from preprocessing.ingest import prepare
    from preprocessing.ingest_plan import ImageOptions
    from preprocessing.records import imagenet
    from preprocessing.records.schema import SPLITS
    from preprocessing.storage import contracts

    manifest = prepare(
        arguments.source,
        arguments.records,
        num_shards={"train": arguments.train_shards, "validation": arguments.validation_shards},
        seed=arguments.seed,
        validation_fraction=arguments.validation_fraction,
        image=ImageOptions(
            decode_check=arguments.decode_check,
            short_side=arguments.short_side,
            quality=arguments.quality,
            apply_orientation=arguments.apply_orientation,
        ),
        max_rejects=arguments.max_rejects,
        overwrite=arguments.overwrite,
        num_workers=arguments.workers,
        beam_arguments=arguments.beam_arguments,
    )
    for reject in manifest.rejects:
        logger.warning("prepare: rejected %s: %s", reject.key, reject.reason)
    oriented = sum(manifest.statistics.of(split).oriented or 0 for split in SPLITS)
    if oriented:
        logger.info(
            "prepare: %d images have an EXIF orientation, %s",
            oriented,
            "and were turned upright"
            if arguments.apply_orientation
            else "which is ignored, as in the original; --apply-orientation turns them upright",
        )
    _tell_imbalance(manifest)
    verdict = imagenet.verdict(manifest)
    if verdict:
        differences = "; ".join(verdict.differences)
        logger.info("prepare: %s", differences or "all totals are those of ImageNet")
    return {
        "records": arguments.records,
        "digest": manifest.digest,
        "classes": len(manifest.classes),
        "examples": {split: manifest.num_examples(split) for split in manifest.shards},
        "repaired": manifest.repaired,
        "rejected": len(manifest.rejects),
        "oriented": oriented,
        "duplicates": manifest.statistics.duplicates.counts(),
        "imagenet": contracts.to_json(verdict) if verdict else None,
    }


def _tell_imbalance(manifest: Manifest) -> None:
    """Say how many images the classes have, if the numbers differ much."""
    counts = manifest.statistics.train.class_counts
    if counts and max(counts) >= IMBALANCE * max(1, min(counts)):
        logger.warning(
            "prepare: the classes have %d (%s) to %d (%s) training images; train with "
            "--set training.class_weights=balanced to let all weigh the same",
            *(min(counts), manifest.classes[counts.index(min(counts))].text),
            *(max(counts), manifest.classes[counts.index(max(counts))].text),
        )


COMMAND = Command(
    name="prepare",
    summary="write ImageNet archives to TFRecords; flags after -- go to Beam",
    add_flags=_add_flags,
    run=_run,
    takes_beam_flags=True,
)
