"""`mobilenet watch`: supervise runs."""

from __future__ import annotations

import argparse

from pipeline.cli.cluster import common
from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="*", metavar="RUN", help="names of the runs [all]")
    parser.add_argument("--stay", action="store_true", help="wait for new runs, without end")
    common.add_cluster(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.cluster import record

    gateway = common.gateway_of(arguments)
    for name in arguments.run:
        record.read(gateway, name)  # a name that does not exist is a mistake, not a wait
    return common.until_end(gateway, arguments.run, stay=arguments.stay)


COMMAND = Command(
    name="watch",
    summary="supervise runs: next stages, resubmission, deadlines",
    add_flags=_add_flags,
    run=_run,
)
