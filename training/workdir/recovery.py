"""Recovery from a loss that is not finite: back to the last checkpoint, then on with other data.

The same data would give the same loss again. The decision is kept in the workdir, so that a run
that is resumed later is the run that recovered.
"""

from __future__ import annotations

import logging

from preprocessing import storage
from preprocessing.errors import NonFiniteLossError, RetryError
from preprocessing.storage import contracts
from preprocessing.storage.contracts import WholeNumber
from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)

FILE = "recoveries.json"
SEED_STRIDE = 1_000_003  # apart from the seeds that people choose


def data_seed(workdir: Workdir, seed: int, start_step: int) -> int:
    """Return the seed of the data from `start_step` on: `seed` unless the run was recovered."""
    return seed + SEED_STRIDE * sum(step <= start_step for step in _read(workdir))


def go_back(
    workdir: Workdir, error: NonFiniteLossError, allowed: int, is_chief: bool
) -> RetryError | NonFiniteLossError:
    """Return what to raise: a logged retry with other data, or `error` when no try is left."""
    steps = _read(workdir)
    if len(steps) >= allowed:
        return error
    step = workdir.newest_checkpoint_step()
    line = (
        f"{error}; recovery {len(steps) + 1} of {allowed}: going back to step {step}, with the "
        "training images in another order from there; run the same command to continue"
    )
    if is_chief:
        storage.write_json(workdir.file(FILE), [*steps, step])
        logger.warning("train: %s", line)
    return RetryError(line)


def _read(workdir: Workdir) -> list[int]:
    path = workdir.file(FILE)
    if not storage.exists(path):
        return []
    with contracts.remedied("delete it to go on as if there had been no recovery"):
        return contracts.from_json(list[WholeNumber], storage.read_json(path), path)
