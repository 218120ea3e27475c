"""`mobilenet report`: one HTML page of an export or of a published folder."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="export directory, or a published folder")
    parser.add_argument("--output", required=True, help="HTML file to write")
    parser.add_argument("--records", help="the records it was measured on, to show their images")


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.publish.pages.html_report import report

    return report(arguments.folder, arguments.output, arguments.records)


COMMAND = Command(
    name="report",
    summary="write one HTML page: table, plots, predictions, worst mistakes",
    add_flags=_add_flags,
    run=_run,
)
