"""After a loss that is not finite: back to the last checkpoint, with other data from there.

The same data would give the same loss again. What was decided is kept in the workdir, so
that a run resumed later is the run that went on.
"""

from __future__ import annotations

import sys

from preprocessing import storage
from preprocessing.errors import NonFiniteLossError, RetryError
from training.workdir.workdir import newest_checkpoint_step

FILE = "recoveries.json"
SEED_STRIDE = 1_000_003  # apart from the seeds that people choose


def data_seed(workdir: str, seed: int, start_step: int) -> int:
    """The seed of the data from `start_step` on, `seed` unless the run was recovered."""
    return seed + SEED_STRIDE * sum(each <= start_step for each in _read(workdir))


def go_back(
    workdir: str, error: NonFiniteLossError, allowed: int, is_chief: bool
) -> RetryError | NonFiniteLossError:
    """What to raise: a retry with other data, said aloud, or `error` once the tries are used up."""
    steps = _read(workdir)
    if len(steps) >= allowed:
        return error
    step = newest_checkpoint_step(workdir)
    line = (
        f"{error}; recovery {len(steps) + 1} of {allowed}: going back to step {step}, with the "
        "training images in another order from there; run the same command to continue"
    )
    if is_chief:
        storage.write_json(storage.join(workdir, FILE), [*steps, step])
        print(f"train: {line}", file=sys.stderr, flush=True)
    return RetryError(line)


def _read(workdir: str) -> list[int]:
    path = storage.join(workdir, FILE)
    steps: list[int] = storage.read_json(path) if storage.exists(path) else []
    return steps
