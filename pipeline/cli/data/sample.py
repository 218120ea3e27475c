"""`mobilenet sample`: the demo's dataset as archives."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, help="folder to make")


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.demo.sample import write_sample

    return {"archives": arguments.output, **write_sample(arguments.output)}


COMMAND = Command(
    name="sample",
    summary="write that dataset as ILSVRC2012 archives",
    add_flags=_add_flags,
    run=_run,
)
