"""Killed at random again and again, and restarted as an operator would, it is the same run."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.training.loop.test_loop import tensors
from tests.training.supervisor import Fault, Supervisor

pytestmark = pytest.mark.slow

STEPS = 300
CHECKPOINT_EVERY = 20
SOAK_SECONDS = 800  # a quiet machine needs a quarter of it
STARTUP_SECONDS = 240  # a busy machine takes a minute to import TensorFlow
STEP_SECONDS = 60
GRACE_SECONDS = 20
# TensorFlow's own heartbeats find a lost peer within ten seconds; on a busy machine later.
NOTICE_SECONDS = 60


def arguments(records: Path) -> list[str]:
    return [
        "train",
        "--variant=mobilenet_v2_0.35_32",
        "--recipe=demo",
        f"--records={records}",
        "--set=training.batch_per_replica=8",
        f"--set=training.total_images={STEPS * 16}",
        "--set=loop.steps_per_loop=5",
        f"--set=loop.checkpoint_every_steps={CHECKPOINT_EVERY}",
        f"--set=loop.evaluate_every_steps={STEPS}",
        f"--set=loop.startup_timeout_seconds={STARTUP_SECONDS}",
        f"--set=loop.step_timeout_seconds={STEP_SECONDS}",
        f"--set=loop.grace_seconds={GRACE_SECONDS}",
    ]


def soak(records: Path, folder: Path, seed: int) -> tuple[list[Fault], Path]:
    """Five faults: every signal, both workers, in random order at random steps."""
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
        scale = np.abs(value).max()
        np.testing.assert_allclose(ended[name], value, rtol=1e-5, atol=1e-5 * scale, err_msg=name)
