"""`mobilenet table`: the published table in Markdown, on stdout."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", help="folder that `mobilenet publish` wrote")


def _run(arguments: argparse.Namespace) -> None:
    from pipeline.publish import published_index
    from pipeline.publish.pages import accuracy_table
    from preprocessing.errors import UsageError

    if arguments.published:
        if not published_index.is_published(arguments.published):
            raise UsageError(
                f"{arguments.published} publishes nothing; it has no {published_index.INDEX}"
            )
        print(accuracy_table.ours(published_index.read_index(arguments.published)))
    print(accuracy_table.published(), end="")


COMMAND = Command(
    name="table",
    summary="print the published table, with a folder of ours (Markdown)",
    add_flags=_add_flags,
    run=_run,
)
