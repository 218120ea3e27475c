"""A run that is killed at random and restarted as an operator would is the same run."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.training.faults import (
    CHECKPOINT_EVERY,
    GRACE_SECONDS,
    NOTICE_SECONDS,
    SOAK_SECONDS,
    arguments,
)
from tests.training.small_runs import tensors
from tests.training.supervisor import Fault, Supervisor

pytestmark = pytest.mark.slow


def soak(records: Path, folder: Path, seed: int) -> tuple[list[Fault], Path]:
    """Inflict five faults: every signal, both workers, in random order at random steps."""
    draws = random.Random(seed)
    kinds = [
        (signal.SIGKILL, 0),
        (signal.SIGKILL, 1),
        (signal.SIGTERM, draws.randrange(2)),
        (signal.SIGSTOP, 0),
        (signal.SIGSTOP, 1),
    ]
    draws.shuffle(kinds)
    plan = [(*kind, draws.randrange(1, 50)) for kind in kinds]
    supervisor = Supervisor(arguments(records), folder / "workdir", folder / "logs")
    return supervisor.run(plan, seconds=SOAK_SECONDS), folder / "workdir"


def test_five_faults_later_the_weights_are_those_of_a_run_that_had_none(
    records: Path, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"faults drawn with seed {seed}")
    undisturbed = Supervisor(arguments(records), tmp_path / "quiet" / "workdir", tmp_path / "q")
    undisturbed.run([], seconds=SOAK_SECONDS)
    faults, workdir = soak(records, tmp_path / "soak", seed)

    assert len(faults) == 5
    for fault in faults:
        print(fault)
        assert fault.exit_codes[fault.survivor] == 143
        bound = GRACE_SECONDS if fault.signal == signal.SIGTERM else NOTICE_SECONDS
        assert fault.seconds[fault.survivor] < bound
        if fault.signal == signal.SIGTERM:
            assert fault.exit_codes[fault.worker] == 143
            assert fault.checkpoint >= fault.step  # nothing was lost
        # The newest checkpoint may still have been on its way to the disk.
        assert fault.checkpoint > fault.step - 2 * CHECKPOINT_EVERY
        assert fault.resumed_at > fault.checkpoint
    original = tensors(tmp_path / "quiet" / "workdir")
    ended = tensors(workdir)
    assert ended.keys() == original.keys()
    for name, value in original.items():
        np.testing.assert_array_equal(ended[name], value, err_msg=name)
