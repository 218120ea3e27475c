"""`mobilenet fetch`: a published model, verified, as an export directory."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("variant", metavar="NAME", help="for example mobilenet_v2_1.0_224")
    parser.add_argument("--from", dest="source", required=True, help="folder, gs:// or https://")
    parser.add_argument("--output", help="export directory to make [NAME]")


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.publish.download import fetch

    output = arguments.output or arguments.variant
    entry = fetch(arguments.variant, arguments.source, output)
    return {
        "export": output,
        "variant": entry.name,
        "sha256": entry.sha256,
        "export_digest": entry.export_digest,
        "top1": entry.top1,
        "top5": entry.top5,
    }


COMMAND = Command(
    name="fetch",
    summary="download a published model and verify it",
    add_flags=_add_flags,
    run=_run,
)
