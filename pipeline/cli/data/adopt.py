"""`mobilenet adopt`: shards that others wrote become records, without being rewritten."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "records",
        metavar="RECORDS",
        help="folder of TFRecord shards with the features of slim's build_imagenet_data.py",
    )


def _run(arguments: argparse.Namespace) -> Result:
    from preprocessing.adopt import adopt

    manifest = adopt(arguments.records)
    return {
        "records": arguments.records,
        "digest": manifest.digest,
        "classes": len(manifest.classes),
        "examples": {split: manifest.num_examples(split) for split in manifest.shards},
        "duplicates": manifest.statistics.duplicates.counts(),
    }


COMMAND = Command(
    name="adopt",
    summary="check TFRecords that exist already, and train from them as they are",
    add_flags=_add_flags,
    run=_run,
)
