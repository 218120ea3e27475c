"""Checkpoints of a run: written by the chief beside the training, verified by whoever reads them.

`checkpoints/ckpt-N.index` and `.data-00000-of-00001` are a TensorFlow checkpoint that any
tool can open; `ckpt-N.json`, written last, makes it complete and holds the digests.
Kept are the newest few and the one with the best top-1 known.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import (
    DataError,
    NonFiniteLossError,
    StorageFullError,
    UsageError,
    describe_os_error,
)
from training.optimization.state import TrainingState
from training.workdir import workdir as workdirs
from training.workdir.workdir import Run, checkpoint_steps, checkpoints_folder


class CorruptCheckpointError(Exception):
    """A checkpoint's files are not what was written; names the file."""


class Checkpoints:
    """Saves and restores a `TrainingState`.

    Only the chief may save; `keep` newest checkpoints stay, and the best.
    """

    def __init__(self, workdir: str, state: TrainingState, keep: int) -> None:
        self._workdir = workdir
        self._variables = _named_variables(state)
        self._keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._newest: int | None = None

    def restore(self, verbose: bool = True) -> int | None:
        """Continue from the newest intact checkpoint.

        Args:
            verbose: Say on stderr when a corrupt one is passed over.

        Returns:
            Its step, or None if there is no checkpoint.

        Raises:
            DataError: None of them is intact, or they are of another run.
        """
        found = _newest_intact(self._workdir, verbose)
        if found is None:
            return None
        self._newest, tensors = found
        _assign(self._variables, tensors, f"{checkpoints_folder(self._workdir)}/ckpt-{found[0]}")
        return self._newest

    def save(self, step: int) -> None:
        """Copy the state as it is now and write it while training goes on.

        Waits for the one before, whose failure it raises.

        Raises:
            NonFiniteLossError: A variable is NaN or infinite: nobody could continue from it.
        """
        self.wait()
        if step == self._newest:
            return
        # Copies: the next step overwrites the buffers.
        tensors = {name: np.array(each.numpy()) for name, each in self._variables.items()}
        for name, value in tensors.items():
            if not np.isfinite(value).all():
                raise NonFiniteLossError(
                    f"{name} is not finite after step {step}, so no checkpoint is written; lower "
                    "optimizer.learning_rate_per_replica"
                )
        self._writing = self._thread.submit(self._write, step, tensors)
        self._newest = step

    def check(self) -> None:
        """Raise what the last write failed with, if it has; does not wait.

        Raises:
            StorageFullError: No space left; names file and step.
            UsageError: The folder is gone or closed to us.
        """
        if self._writing and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when everything saved is on disk.

        Raises:
            StorageFullError: No space left; names file and step.
            UsageError: The folder is gone or closed to us.
        """
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, step: int, tensors: dict[str, np.ndarray]) -> None:
        folder = checkpoints_folder(self._workdir)
        path = storage.join(folder, f"ckpt-{step}")
        try:
            with _scratch(folder, step) as scratch:
                tf.raw_ops.SaveV2(
                    prefix=os.path.join(scratch, f"ckpt-{step}"),
                    tensor_names=list(tensors),
                    shape_and_slices=[""] * len(tensors),
                    tensors=list(tensors.values()),
                )
                files = {name: _fingerprint(scratch, name) for name in sorted(os.listdir(scratch))}
                storage.remove(f"{path}.json")
                for name in files:
                    storage.move_into(os.path.join(scratch, name), storage.join(folder, name))
            storage.write_json(f"{path}.json", {"step": step, "files": files})
            # What TensorFlow's own tools look for.
            state = f'model_checkpoint_path: "ckpt-{step}"\n'
            storage.write_bytes(storage.join(folder, "checkpoint"), state.encode())
            self._retain()
        except (OSError, tf.errors.OpError) as error:
            raise _explained(error, path, step) from error

    def _retain(self) -> None:
        steps = checkpoint_steps(self._workdir)
        keep = set(steps[: self._keep])
        top1 = workdirs.read_evaluations(self._workdir, steps)
        if top1:
            keep.add(max(top1, key=lambda step: (top1[step], step)))
        for step in set(steps) - keep:
            remove_checkpoint(self._workdir, step)


def remove_checkpoint(workdir: str, step: int) -> None:
    """Delete the checkpoint of `step`, first what makes it complete."""
    folder = checkpoints_folder(workdir)
    names = [name for name in storage.list_names(folder) if name.startswith(f"ckpt-{step}.")]
    for name in sorted(names, key=lambda name: not name.endswith(".json")):
        storage.remove(storage.join(folder, name))


def load_state(workdir: str, run: Run, step: int | None = None) -> TrainingState:
    """A checkpoint of a run, its averages in `averaged_model`.

    Args:
        workdir: The run's folder.
        run: What it holds.
        step: Which checkpoint; the newest intact one if None.

    Raises:
        UsageError: There is no checkpoint.
        DataError: It is not one of this run, or corrupt.
    """
    state = TrainingState.of(run)
    load_into(state, workdir, step)
    return state


def load_into(state: TrainingState, workdir: str, step: int | None = None) -> None:
    """`load_state` into a state that is there already."""
    try:
        found = (
            _newest_intact(workdir, verbose=True)
            if step is None
            else (step, read_checkpoint(workdir, step))
        )
    except CorruptCheckpointError as error:
        raise DataError(f"{error}; train on, or evaluate another step") from error
    if found is None:
        raise UsageError(f"{workdir} has no checkpoint yet; train it with `mobilenet train`")
    path = f"{checkpoints_folder(workdir)}/ckpt-{found[0]}"
    _assign(_named_variables(state), found[1], path)
    state.average()


def read_checkpoint(workdir: str, step: int) -> dict[str, np.ndarray]:
    """All tensors of the checkpoint of `step`, once its files are what was written.

    Raises:
        CorruptCheckpointError: They are not; names the file.
    """
    folder = checkpoints_folder(workdir)
    try:
        expected = storage.read_json(storage.join(folder, f"ckpt-{step}.json"))["files"]
        with _local_copy(folder, list(expected)) as local:
            for name, fingerprint in expected.items():
                if _fingerprint(local, name) != fingerprint:
                    raise CorruptCheckpointError(
                        f"{storage.join(folder, name)} is not what was written at step {step}"
                    )
            reader = tf.train.load_checkpoint(os.path.join(local, f"ckpt-{step}"))
            return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (FileNotFoundError, DataError, KeyError, TypeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptCheckpointError(f"{folder}/ckpt-{step} cannot be read: {reason}") from error


def _newest_intact(workdir: str, verbose: bool) -> tuple[int, dict[str, np.ndarray]] | None:
    steps = checkpoint_steps(workdir)
    for step in steps:
        try:
            return step, read_checkpoint(workdir, step)
        except CorruptCheckpointError as error:
            if verbose:
                line = f"train: {error}; falling back to the checkpoint before it"
                print(line, file=sys.stderr, flush=True)
    if steps:
        raise DataError(
            f"none of the {len(steps)} checkpoints in {checkpoints_folder(workdir)} is intact; "
            "delete that folder to start over"
        )
    return None


def _named_variables(state: TrainingState) -> dict[str, Any]:
    return {
        f"{section}/{name}": variable
        for section, named in state.checkpointed().items()
        for name, variable in named.items()
    }


def _assign(variables: dict[str, Any], tensors: dict[str, np.ndarray], path: str) -> None:
    wrong = sorted(variables.keys() ^ tensors.keys()) or [
        f"{name} {tensors[name].shape} (expected {tuple(variable.shape)})"
        for name, variable in variables.items()
        if tensors[name].shape != tuple(variable.shape)
    ]
    if wrong:
        raise DataError(f"{path} is not a checkpoint of this run: {len(wrong)} differ, {wrong[0]}")
    for name, variable in variables.items():
        variable.assign(tensors[name])


def _fingerprint(folder: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    return {"bytes": os.path.getsize(path), "sha256": storage.digest_of_file(path)}


@contextlib.contextmanager
def _scratch(folder: str, step: int) -> Iterator[str]:
    """A local folder to write in, on the same disk when `folder` is local."""
    if storage.is_remote(folder):
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as scratch:
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
    """`folder` itself if it is local, else a temporary copy of `names`."""
    if not storage.is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as local:
        for name in names:
            with (
                storage.open_read(storage.join(folder, name)) as source,
                open(os.path.join(local, name), "wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
        yield local


def _explained(error: OSError | tf.errors.OpError, path: str, step: int) -> Exception:
    """The one line for a checkpoint that could not be written: file, step, what to do."""
    if "No space left" in str(error) or "Disk quota" in str(error):
        return StorageFullError(
            f"{path}: no space left for the checkpoint of step {step}; free some and run the same "
            "command again, it continues"
        )
    folder = os.path.dirname(path)
    if isinstance(error, (FileNotFoundError, tf.errors.NotFoundError)):
        return UsageError(
            f"{folder} vanished while the checkpoint of step {step} was written; bring it back "
            "and run the same command again"
        )
    if isinstance(error, OSError):
        described = describe_os_error(error)
        return type(described)(f"checkpoint of step {step}: {described}")
    reason = str(error).splitlines()[0]
    return UsageError(f"{path}: the checkpoint of step {step} cannot be written: {reason}")
