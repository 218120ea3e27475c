"""`mobilenet diagnose`: what limits the speed of training here."""

from __future__ import annotations

import argparse

from pipeline.cli import flags
from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_variant(parser)
    flags.add_records(parser)
    parser.add_argument(
        "--steps", type=flags.positive, default=20, help="steps to time of each kind [20]"
    )
    flags.add_settings(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.local.quiet import import_tensorflow
    from preprocessing.records.schema import Manifest

    manifest = Manifest.read(arguments.records)
    config = flags.chosen_config(arguments, manifest.num_examples("train"))
    import_tensorflow()
    from pipeline.planning.diagnosis import diagnose
    from training.workers.failures import explained

    with explained(arguments.records):
        return diagnose(config, arguments.records, arguments.steps)


COMMAND = Command(
    name="diagnose",
    summary="find out what limits the speed here: devices, cores or storage",
    add_flags=_add_flags,
    run=_run,
)
