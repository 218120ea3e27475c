"""`mobilenet resume`: let a stopped or failed run continue."""

from __future__ import annotations

import argparse

from pipeline.cli.cluster import common
from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    parser.add_argument("--detach", action="store_true", help="leave the rest to the supervisor")
    common.add_cluster(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.cluster import supervise

    gateway = common.gateway_of(arguments)
    resumed = supervise.resume(gateway, arguments.run)
    if arguments.detach:
        return common.result_of(resumed)
    return common.until_end(gateway, [arguments.run])


COMMAND = Command(
    name="resume",
    summary="let a stopped or failed run continue where it was",
    add_flags=_add_flags,
    run=_run,
)
