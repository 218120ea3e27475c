"""`mobilenet runs`: every run in a folder, a line each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.cli import flags, listing
from pipeline.cli.command import Command

if TYPE_CHECKING:
    from training.workdir.overview import Overview


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default=".",
        help="folder of runs, local or gs:// [this one]",
    )
    flags.add_json(parser)


def _run(arguments: argparse.Namespace) -> None:
    from preprocessing import storage
    from preprocessing.errors import UsageError
    from training.workdir.overview import overviews

    if not storage.exists(arguments.folder):
        raise UsageError(f"{arguments.folder} does not exist")
    found = overviews(arguments.folder)
    if not found and not arguments.json:
        raise UsageError(f"{arguments.folder} holds no runs; start one with `mobilenet train`")
    if arguments.json:
        listing.show([overview.to_json() for overview in found], as_json=True)
        return
    listing.show([_row(overview, arguments.folder) for overview in found], as_json=False)


def _row(overview: Overview, folder: str) -> dict[str, object]:
    steps = None if overview.num_steps is None else f"{overview.step}/{overview.num_steps}"
    top1 = None if overview.best_top1 is None else f"{overview.best_top1:.4f}"
    return {
        "run": overview.run.removeprefix(folder).strip("/") or folder,
        "variant": overview.variant,
        "recipe": overview.recipe,
        "step": steps,
        "best top-1": top1,
        "state": overview.state,
    }


COMMAND = Command(
    name="runs",
    summary="list the runs of a folder: variant, recipe, step, best top-1, state",
    add_flags=_add_flags,
    run=_run,
)
