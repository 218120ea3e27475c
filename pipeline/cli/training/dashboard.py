"""`mobilenet dashboard`: TensorBoard on a run, until interrupted."""

from __future__ import annotations

import argparse
import os
import sys

from pipeline.cli import flags
from pipeline.cli.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of the run")
    parser.add_argument("--port", type=flags.positive, default=6006, help="port of the page [6006]")


def _run(arguments: argparse.Namespace) -> None:
    from preprocessing import storage
    from preprocessing.errors import UsageError
    from training.workdir.workdir import Workdir

    folder = Workdir(arguments.workdir).tensorboard_folder
    if not storage.exists(folder):
        raise UsageError(f"{arguments.workdir} has no events yet; start `mobilenet train` first")
    flags.require_free_port(arguments.port)
    os.execv(
        sys.executable,
        [
            *(sys.executable, "-m", "tensorboard.main"),
            f"--logdir={folder}",
            f"--port={arguments.port}",
            "--host=127.0.0.1",
        ],
    )


COMMAND = Command(
    name="dashboard",
    summary="show TensorBoard on a run",
    add_flags=_add_flags,
    run=_run,
)
