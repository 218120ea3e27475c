"""`mobilenet register`: exports into the registry; a lost registry is rebuilt from them."""

from __future__ import annotations

import argparse

from pipeline.cli import flags
from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exports", nargs="+", metavar="EXPORT", help="export directory")
    flags.add_registry(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.export import directory
    from pipeline.publish import embedded_registry, gate, registry
    from pipeline.publish.passwords import without_password

    uri = arguments.registry or embedded_registry.default_uri()
    versions = []
    for folder in arguments.exports:
        with directory.at_hand(folder) as export:
            metrics = directory.read_metrics(export)
            gate.require_measured(export, metrics)
            version = registry.register(export, metrics, uri)
        versions.append(
            {
                "export": folder,
                "uri": without_password(uri),
                "model": version.model,
                "version": version.version,
                "run_id": version.run_id,
            }
        )
    return {"registry": without_password(uri), "versions": versions}


COMMAND = Command(
    name="register",
    summary="put exports into the registry without publishing them",
    add_flags=_add_flags,
    run=_run,
)
