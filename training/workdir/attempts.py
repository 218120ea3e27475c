"""A bound on attempts that get nowhere, kept in the workdir: ends endless crash loops.

A cluster restarts whatever exits with 143, and so it should; but a run that crashes again
and again before its next checkpoint would do so for ever.
"""

from __future__ import annotations

from preprocessing import storage
from preprocessing.errors import PermanentError
from training.workdir import workdir as workdirs

FILE = ".attempts.json"  # hidden: there before the workdir is claimed


def begin(workdir: str, allowed: int) -> None:
    """Count this attempt; only the chief calls this, before anything can go wrong.

    Args:
        workdir: The run's folder.
        allowed: Attempts in a row that may end without a new checkpoint.

    Raises:
        PermanentError: They are used up; says how the last one ended.
    """
    path = storage.join(workdir, FILE)
    step = workdirs.newest_checkpoint_step(workdir)
    before = storage.read_json(path) if storage.exists(path) else {"step": -1}
    same = before["step"] == step
    attempts = before["attempts"] + 1 if same else 1
    last = before["last_failure"] if same else ""
    if attempts > allowed:
        raise PermanentError(
            f"{allowed} attempts in a row ended without a checkpoint after step {step}"
            f"{f', the last with: {last}' if last else ''}; find the cause, then delete {path} "
            "or raise loop.max_attempts"
        )
    storage.make_folder(workdir)
    storage.write_json(path, {"step": step, "attempts": attempts, "last_failure": last})


def note_failure(workdir: str, error: BaseException) -> None:
    """Remember how this attempt ended, for whoever reads the last line."""
    path = storage.join(workdir, FILE)
    if storage.exists(path):
        storage.write_json(path, {**storage.read_json(path), "last_failure": str(error)})


def forgive(workdir: str) -> None:
    """This attempt was ended from outside before it could get anywhere: it does not count."""
    path = storage.join(workdir, FILE)
    if storage.exists(path):
        before = storage.read_json(path)
        storage.write_json(path, {**before, "attempts": max(0, before["attempts"] - 1)})
