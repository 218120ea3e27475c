"""`mobilenet demo`: the whole pipeline on a small real dataset."""

from __future__ import annotations

import argparse

from pipeline.cli import flags
from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="demo", help="folder for everything it makes [demo]")
    parser.add_argument(
        "--workers", type=flags.positive, default=2, help="local training processes [2]"
    )
    flags.add_set(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.demo.demo import VARIANT, run_demo
    from training.config.recipes import configured
    from training.models.variants import Variant

    # A mistake in --set is refused before anything is done.
    configured("demo", Variant.parse(VARIANT), arguments.set)
    return run_demo(arguments.output, arguments.workers, arguments.set)


COMMAND = Command(
    name="demo",
    summary="run the whole pipeline on a small real dataset, on this machine",
    add_flags=_add_flags,
    run=_run,
)
