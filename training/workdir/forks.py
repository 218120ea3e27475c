"""Forks: a run that goes on from a checkpoint of another run, with settings of its own."""

from __future__ import annotations

import os

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.records.schema import Manifest
from training.config import RunConfig
from training.workdir.run_record import Fork
from training.workdir.workdir import Workdir


def fork_of(origin: str, workdir: Workdir, config: RunConfig, manifest: Manifest) -> Fork:
    """Return the checkpoint from which a run in `workdir` goes on.

    It is the newest one of the run in `origin` when the run in `workdir` began, and stays it.

    Args:
        origin: Folder of the other run.
        workdir: Folder of the run that goes on.
        config: Settings of the run that goes on.
        manifest: Its records.

    Raises:
        UsageError: The other run has no checkpoint, another network, other classes, or is the run
            itself.
    """
    if storage.exists(workdir.config_file):
        stored = workdir.read_run().fork
        if stored and stored.workdir == origin:
            return stored
    if _place(origin) == _place(workdir.path):
        raise UsageError(f"--fork {origin} is the --workdir itself; choose another --workdir")
    other = Workdir(origin)
    run, step = other.read_run(), other.newest_checkpoint_step()
    if not step:
        raise UsageError(f"--fork {origin} has no checkpoint yet; train there, or leave --fork out")
    theirs = (run.config.variant.name, run.num_classes)
    ours = (config.variant.name, len(manifest.classes))
    if theirs != ours:
        raise UsageError(
            f"--fork {origin} holds {theirs[0]} with {theirs[1]} classes, this run is {ours[0]} "
            f"with {ours[1]}; --initial-checkpoint takes weights of another run"
        )
    return Fork(workdir=origin, step=step, weights_digest=other.weights_digest(step))


def _place(path: str) -> str:
    return path.rstrip("/") if storage.is_remote(path) else os.path.realpath(path)
