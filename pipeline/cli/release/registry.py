"""`mobilenet registry`: MLflow's page of the embedded registry, until interrupted."""

from __future__ import annotations

import argparse

from pipeline.cli import flags
from pipeline.cli.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", help="the SQLite file [the one in your data folder]")
    parser.add_argument("--port", type=flags.positive, default=5000, help="port of the page [5000]")


def _run(arguments: argparse.Namespace) -> None:
    from pipeline.publish import embedded_registry
    from pipeline.publish.passwords import without_password
    from preprocessing.errors import UsageError

    flags.require_free_port(arguments.port)
    uri = embedded_registry.default_uri()
    database = arguments.database or embedded_registry.sqlite_file(uri)
    if database is None:
        raise UsageError(
            f"MLFLOW_TRACKING_URI is {without_password(uri)}, a server with a page of its own; "
            "open it in a browser"
        )
    embedded_registry.serve(database, arguments.port)


COMMAND = Command(
    name="registry",
    summary="show the embedded registry's page (MLflow)",
    add_flags=_add_flags,
    run=_run,
)
