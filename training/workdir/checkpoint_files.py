"""The files of a checkpoint: verified by whoever reads them, removed in a safe order.

`checkpoints/ckpt-N.index` and `.data-00000-of-00001` are a TensorFlow checkpoint that any
tool can open; `ckpt-N.json`, written last, makes it complete and holds the digests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.storage import contracts
from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)


class CorruptCheckpointError(Exception):
    """A checkpoint's files are not what was written; names the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Size and digest of a file."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: str) -> Fingerprint:
        """Return the fingerprint of a local file."""
        return cls(bytes=os.path.getsize(path), sha256=storage.digest_of_file(path))


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointFiles:
    """`ckpt-N.json`: the files of the checkpoint of `step`, by name."""

    step: int
    files: dict[str, Fingerprint]


def checkpoint_path(workdir: Workdir, step: int) -> str:
    """Return the prefix of the checkpoint's files."""
    return storage.join(workdir.checkpoints_folder, f"ckpt-{step}")


def read_checkpoint(workdir: Workdir, step: int) -> dict[str, np.ndarray]:
    """Read all tensors of the checkpoint of `step`, once its files are what was written.

    Raises:
        CorruptCheckpointError: The files are not what was written; names the first.
    """
    folder = workdir.checkpoints_folder
    path = f"{checkpoint_path(workdir, step)}.json"
    try:
        expected = contracts.from_json(CheckpointFiles, storage.read_json(path), path).files
        with _local_copy(folder, list(expected)) as local:
            for name, fingerprint in expected.items():
                if Fingerprint.of(os.path.join(local, name)) != fingerprint:
                    raise CorruptCheckpointError(
                        f"{storage.join(folder, name)} is not what was written at step {step}"
                    )
            reader = tf.train.load_checkpoint(os.path.join(local, f"ckpt-{step}"))
            return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (FileNotFoundError, DataError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptCheckpointError(f"{folder}/ckpt-{step} cannot be read: {reason}") from error


def newest_intact(
    workdir: Workdir, verbose: bool = True
) -> tuple[int, dict[str, np.ndarray]] | None:
    """Return step and tensors of the newest intact checkpoint, or None if there is none at all.

    Args:
        workdir: The run's folder.
        verbose: Log when a corrupt one is passed over.

    Raises:
        DataError: There are checkpoints, but none of them is intact.
    """
    steps = workdir.checkpoint_steps()
    for step in steps:
        try:
            return step, read_checkpoint(workdir, step)
        except CorruptCheckpointError as error:
            if verbose:
                logger.warning("train: %s; falling back to the checkpoint before it", error)
    if steps:
        raise DataError(
            f"none of the {len(steps)} checkpoints in {workdir.checkpoints_folder} is intact; "
            "delete that folder to start over"
        )
    return None


def remove_checkpoint(workdir: Workdir, step: int) -> None:
    """Delete the checkpoint of `step`, beginning with the file that makes it complete."""
    folder = workdir.checkpoints_folder
    names = [name for name in storage.list_names(folder) if name.startswith(f"ckpt-{step}.")]
    for name in sorted(names, key=lambda name: not name.endswith(".json")):
        storage.remove(storage.join(folder, name))


@contextlib.contextmanager
def scratch_folder(folder: str, step: int) -> Iterator[str]:
    """Provide a local folder to write in, on the same disk when `folder` is local."""
    if storage.is_remote(folder):
        with storage.temporary_folder("checkpoint") as scratch:
            yield scratch
        return
    for leftover in storage.list_names(folder):
        if storage.PARTIAL in leftover:  # of a writer that was killed
            storage.remove(storage.join(folder, leftover))
    scratch = os.path.join(folder, f".ckpt-{step}{storage.PARTIAL}{uuid.uuid4().hex[:8]}")
    os.mkdir(scratch)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _local_copy(folder: str, names: list[str]) -> Iterator[str]:
    """Provide `folder` itself if it is local, else a temporary copy of `names`."""
    if not storage.is_remote(folder):
        yield folder
        return
    with storage.temporary_folder("checkpoint") as local:
        for name in names:
            storage.copy_file(storage.join(folder, name), os.path.join(local, name))
        yield local
