"""`mobilenet compare`: figures on stdout, the tables on stderr."""

from __future__ import annotations

import argparse
import logging

from pipeline.cli import flags
from pipeline.cli.command import Command, Result

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    for name in ("a", "b"):
        parser.add_argument(
            name, metavar=name.upper(), help="export directory, VARIANT@champion or VARIANT/VERSION"
        )
    flags.add_registry(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.publish import comparison, embedded_registry

    uri = arguments.registry or embedded_registry.default_uri()
    result = comparison.compare(arguments.a, arguments.b, uri)
    logger.info("%s", comparison.tables(result))
    return result


COMMAND = Command(
    name="compare",
    summary="show two models side by side: every metric, every class",
    add_flags=_add_flags,
    run=_run,
)
