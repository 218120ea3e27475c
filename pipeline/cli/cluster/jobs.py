"""`mobilenet jobs`: the runs on a cluster."""

from __future__ import annotations

import argparse

from pipeline.cli.cluster import common
from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="keep the table up to date")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="form of the output [table]"
    )
    common.add_cluster(parser)


def _run(arguments: argparse.Namespace) -> Result | None:
    from pipeline.cluster.status import runs_table

    gateway = common.gateway_of(arguments)
    if arguments.format == "table":
        common.say_addresses(arguments)
    if arguments.follow:
        runs_table.follow(gateway)
        return None
    rows = runs_table.rows(gateway)
    if arguments.format == "json":
        return {"runs": [row.to_dict() for row in rows]}
    runs_table.show(rows)
    return None


COMMAND = Command(
    name="jobs",
    summary="show the runs on the cluster: state, step, loss, speed, obstacles",
    add_flags=_add_flags,
    run=_run,
)
