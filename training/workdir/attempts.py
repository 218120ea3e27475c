"""A bound on attempts without progress, kept in the workdir, which ends endless crash loops.

A cluster restarts every process that exits with 143; a run that always crashes before its next
checkpoint would be restarted for ever.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from preprocessing import storage
from preprocessing.errors import PermanentError
from preprocessing.storage import contracts
from training.workdir.workdir import Workdir

FILE = ".attempts.json"  # hidden, because it is written before the workdir is claimed


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempts:
    """Attempts in a row since the checkpoint of `step`, and how the last one failed."""

    step: int
    attempts: int
    last_failure: str


def begin(workdir: Workdir, allowed: int) -> None:
    """Count this attempt; only the chief calls this, before anything can go wrong.

    Args:
        workdir: The run's folder.
        allowed: Number of attempts in a row that may end without a new checkpoint.

    Raises:
        PermanentError: They are used up; the message says how the last one ended.
    """
    step = workdir.newest_checkpoint_step()
    before = _read(workdir)
    if before is None or before.step != step:
        before = Attempts(step=step, attempts=0, last_failure="")
    count = dataclasses.replace(before, attempts=before.attempts + 1)
    if count.attempts > allowed:
        last = f", the last with: {count.last_failure}" if count.last_failure else ""
        raise PermanentError(
            f"{allowed} attempts in a row ended without a checkpoint after step {step}{last}; "
            f"find the cause, then delete {workdir.file(FILE)} or raise loop.max_attempts"
        )
    storage.make_folder(workdir.path)
    _write(workdir, count)


def note_failure(workdir: Workdir, error: BaseException) -> None:
    """Remember how this attempt ended, for whoever reads the last line."""
    before = _read(workdir)
    if before:
        _write(workdir, dataclasses.replace(before, last_failure=str(error)))


def last_failure(workdir: Workdir) -> str:
    """Return how the last attempt failed; empty if it did not, or has made progress before."""
    before = _read(workdir)
    if before is None or before.step != workdir.newest_checkpoint_step() or not before.attempts:
        return ""
    return before.last_failure


def uncount(workdir: Workdir) -> None:
    """Take this attempt out of the count: it was ended from outside before any progress."""
    before = _read(workdir)
    if before:
        _write(workdir, dataclasses.replace(before, attempts=max(0, before.attempts - 1)))


def _read(workdir: Workdir) -> Attempts | None:
    path = workdir.file(FILE)
    if not storage.exists(path):
        return None
    with contracts.remedied("delete it to count from 0"):
        return contracts.from_json(Attempts, storage.read_json(path), path)


def _write(workdir: Workdir, count: Attempts) -> None:
    storage.write_json(workdir.file(FILE), contracts.to_json(count))
