"""Faults under a run, and a run that must survive them, for tests and figures."""

from __future__ import annotations

from pathlib import Path

from preprocessing.records.schema import Manifest

STEPS = 300
CHECKPOINT_EVERY = 20
SOAK_SECONDS = 800  # a quiet machine needs a quarter of it
STARTUP_SECONDS = 240  # a busy machine takes a minute to import TensorFlow
STEP_SECONDS = 60
GRACE_SECONDS = 20
# TensorFlow's own heartbeats find a lost peer within ten seconds; on a busy machine later.
NOTICE_SECONDS = 60


def arguments(records: Path) -> list[str]:
    """Return the command line of the run."""
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


def break_records(folder: Path, count: int) -> list[str]:
    """Change one byte of the image in `count` training records, one in each shard."""
    manifest = Manifest.read(str(folder))
    files = [shard.file for shard in manifest.shards["train"]][:count]
    for file in files:
        content = bytearray((folder / file).read_bytes())
        content[300] ^= 1  # within the first record
        (folder / file).write_bytes(content)
    return files
