"""The run that several tests train, each on its medium and with its disturbances."""

from __future__ import annotations

from pathlib import Path

from preprocessing import storage
from tests.cluster.api import Object
from tests.shallow_family import VARIANT
from training.workdir.workdir import Workdir

LONG, SHORT = 1000, 60  # steps: for many disturbances, or for one or two


def launching(
    name: str, steps: int, *flags: str, overlay: str = "local", batch: int = 96
) -> list[str]:
    """Return the command line that launches the run.

    Args:
        name: Of the run.
        steps: To train.
        flags: More flags.
        overlay: Folder of `k8s/overlays`.
        batch: Images of a step, of both workers together.
    """
    return [
        *("launch", f"--variant={VARIANT}", "--recipe=demo", "--gpus=0", "--workers=2"),
        *(f"--overlay={overlay}", f"--name={name}", f"--set=training.total_images={batch * steps}"),
        f"--set=training.batch_per_replica={batch // 2}",
        *("--set=loop.steps_per_loop=5", "--set=loop.checkpoint_every_steps=5"),
        *("--set=loop.evaluate_every_steps=400", *flags),
    ]


def conditions(job: Object) -> set[str]:
    """Return the true conditions of a job."""
    return {
        condition["type"]
        for condition in job.get("status", {}).get("conditions") or []
        if condition["status"] == "True"
    }


def final_weights(root: Path | str, run: str) -> str:
    """Return the digest of the last checkpoint: all tensors, bit for bit.

    The loss would say less: its last digit depends on how the speed cut the steps into calls.

    Args:
        root: Folder or bucket with the runs.
        run: Its name; it must be complete.
    """
    progress = storage.read_json(f"{root}/runs/{run}/progress.json")
    assert progress["complete"]
    digest = Workdir(f"{root}/runs/{run}").weights_digest(progress["step"])
    assert digest
    return digest


def step(root: Path | str, run: str) -> int:
    """Return the step of the newest checkpoint; 0 before the first."""
    try:
        progress = storage.read_json(f"{root}/runs/{run}/progress.json")
    except (OSError, ValueError):
        return 0
    return int(progress["step"])
