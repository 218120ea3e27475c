"""`mobilenet logs`: what a run's pods print."""

from __future__ import annotations

import argparse

from pipeline.cli import flags
from pipeline.cli.cluster import common
from pipeline.cli.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    parser.add_argument("--follow", action="store_true", help="print until the run ends")
    parser.add_argument("--worker", type=flags.natural, metavar="N", help="only this worker [all]")
    parser.add_argument(
        "--stage", help="prepare, train, evaluate, export or publish [the present stage]"
    )
    parser.add_argument(
        "--tail", type=flags.natural, default=100, metavar="LINES", help="lines of each pod [100]"
    )
    common.add_cluster(parser)


def _run(arguments: argparse.Namespace) -> None:
    from pipeline.cluster import record
    from pipeline.cluster.status import logs

    gateway = common.gateway_of(arguments)
    stage = logs.chosen_stage(record.read(gateway, arguments.run), arguments.stage)
    if arguments.follow:
        logs.follow(gateway, arguments.run, stage, arguments.worker)
    else:
        logs.tail(gateway, arguments.run, stage, arguments.worker, arguments.tail)


COMMAND = Command(
    name="logs",
    summary="show what a run's pods print",
    add_flags=_add_flags,
    run=_run,
)
