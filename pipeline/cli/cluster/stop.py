"""`mobilenet stop`: take a run's pods away."""

from __future__ import annotations

import argparse

from pipeline.cli.cluster import common
from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    common.add_cluster(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.cluster import supervise

    return common.result_of(supervise.stop(common.gateway_of(arguments), arguments.run))


COMMAND = Command(
    name="stop",
    summary="take a run's pods away; its checkpoints stay",
    add_flags=_add_flags,
    run=_run,
)
