"""`mobilenet doctor`: find out what is wrong with a cluster."""

from __future__ import annotations

import argparse
import logging

from pipeline.cli.cluster import common
from pipeline.cli.command import Command, Result

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overlay", default="gke", help="overlay to check against [gke]")
    common.add_cluster(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.cluster import doctor
    from preprocessing.errors import PermanentError

    findings = doctor.examine(common.gateway_of(arguments), arguments.overlay)
    for finding in findings:
        logger.info("%s", finding.line())
    wrong = [finding for finding in findings if finding.wrong]
    if wrong:
        raise PermanentError(f"doctor: {len(wrong)} of {len(findings)} checks found something")
    return {"checks": len(findings), "wrong": 0}


COMMAND = Command(
    name="doctor",
    summary="find out what is wrong with this cluster, and what to do",
    add_flags=_add_flags,
    run=_run,
)
