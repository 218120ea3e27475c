"""What each command does: check what is there, do what is missing, return the result.

Whatever is complete is recognised before TensorFlow, Beam or MLflow is imported. `cli` looks
the functions up here by the names of the commands.
"""

from __future__ import annotations

import argparse
import os
import sys

from pipeline.cli import flags
from pipeline.cli.cluster_commands import doctor, jobs, launch, logs, resume, stop, watch
from pipeline.cli.training_commands import (
    data_service,
    diagnose,
    evaluate,
    import_checkpoint,
    plan,
    train,
)
from preprocessing import storage
from preprocessing.errors import UsageError
from training.workdir.workdir import Workdir

__all__ = [
    "dashboard",
    "data_service",
    "diagnose",
    "doctor",
    "evaluate",
    "import_checkpoint",
    "jobs",
    "launch",
    "logs",
    "plan",
    "resume",
    "stop",
    "train",
    "watch",
]


def dashboard(arguments: argparse.Namespace) -> None:
    """`mobilenet dashboard`: TensorBoard until interrupted."""
    folder = Workdir(arguments.workdir).tensorboard_folder
    if not storage.exists(folder):
        raise UsageError(f"{arguments.workdir} has no events yet; start `mobilenet train` first")
    flags.require_free_port(arguments.port)
    os.execv(
        sys.executable,
        [
            sys.executable,
            "-m",
            "tensorboard.main",
            f"--logdir={folder}",
            f"--port={arguments.port}",
            "--host=127.0.0.1",
        ],
    )
