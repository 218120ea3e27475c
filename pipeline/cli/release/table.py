"""`mobilenet table`: the published table on stdout, in Markdown unless it is a terminal."""

from __future__ import annotations

import argparse
import sys

from pipeline.cli.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", help="folder that `mobilenet publish` wrote")


def _run(arguments: argparse.Namespace) -> None:
    from pipeline.publish import published_index
    from pipeline.publish.pages import accuracy_table, terminal
    from preprocessing.errors import UsageError

    tables = accuracy_table.published()
    if arguments.published:
        if not published_index.is_published(arguments.published):
            raise UsageError(
                f"{arguments.published} publishes nothing; it has no {published_index.INDEX}"
            )
        ours = accuracy_table.ours(published_index.read_index(arguments.published))
        tables = f"{ours}\n{tables}"
    print(terminal.shown(tables, sys.stdout), end="")


COMMAND = Command(
    name="table",
    summary="print the published table, with a folder of ours (Markdown where it is piped)",
    add_flags=_add_flags,
    run=_run,
)
