"""`mobilenet certify`: a certificate of this machine, in a bounded time."""

from __future__ import annotations

import argparse
import os

from pipeline.cli import flags
from pipeline.cli.command import Command, Result

VARIANT = "mobilenet_v2_1.0_224"


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_variant(parser, VARIANT)
    flags.add_records(parser)
    parser.add_argument(
        "--output", default="certificate", help="folder for the page and the JSON [certificate]"
    )
    parser.add_argument(
        "--minutes", type=flags.positive_amount, default=15.0, help="time to take, about [15]"
    )
    flags.add_price(parser)
    flags.add_settings(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.certificate.interruption import end_when_interrupted
    from pipeline.local.quiet import import_tensorflow
    from preprocessing.records import verify
    from preprocessing.records.schema import Manifest

    manifest = Manifest.read(arguments.records)
    config = flags.chosen_config(arguments, manifest.num_examples("train"), VARIANT)
    verify.check_files(arguments.records, manifest)
    _require_folder(arguments.output)
    end_when_interrupted()
    import_tensorflow()
    from pipeline.certificate.certify import certify
    from training.workers.failures import explained

    with explained(arguments.records):
        certificate = certify(
            config,
            arguments.records,
            arguments.output,
            minutes=arguments.minutes,
            price_per_hour=arguments.price_per_hour,
        )
    return certificate.to_json()


def _require_folder(output: str) -> None:
    """Refuse now what could not be written after the measurements.

    Raises:
        UsageError: The output is a file.
        OSError: The folder cannot be made, or its bucket cannot be reached.
    """
    from preprocessing import storage
    from preprocessing.errors import UsageError

    if os.path.isfile(output):
        raise UsageError(f"{output} is a file; --output is a folder")
    storage.make_folder(output)
    storage.list_names(output)


COMMAND = Command(
    name="certify",
    summary="measure and judge this machine: speed, exactness, memory and cost",
    add_flags=_add_flags,
    run=_run,
)
