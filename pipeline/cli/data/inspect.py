"""`mobilenet inspect`: counts, sizes, duplicates and pictures of records."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", metavar="RECORDS", help="folder that `prepare` wrote")
    parser.add_argument(
        "--verify", action="store_true", help="read every shard and compare all digests"
    )
    parser.add_argument(
        "--output", default="inspection", help="folder for the pictures [inspection]"
    )
    parser.add_argument("--recipe", help="also draw training images as this recipe augments them")
    parser.add_argument(
        "--variant",
        default="mobilenet_v2_1.0_224",
        help="variant whose resolution they have [mobilenet_v2_1.0_224]",
    )


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.inspection.inspection import inspect

    config = None
    if arguments.recipe:
        from pipeline.local.quiet import import_tensorflow
        from training.config.recipes import configured
        from training.models.variants import Variant

        config = configured(arguments.recipe, Variant.parse(arguments.variant))
        import_tensorflow()
    return inspect(
        arguments.records, arguments.output, verify_bytes=arguments.verify, config=config
    )


COMMAND = Command(
    name="inspect",
    summary="show counts, sizes, duplicates and pictures of records",
    add_flags=_add_flags,
    run=_run,
)
