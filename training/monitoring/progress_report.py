"""What a run says while it runs: a line per loop, a live line, `progress.json`, scalars."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from training.loop.step_runner import Made
from training.monitoring.summaries import Summaries
from training.workdir import workdir as workdirs
from training.workers.cluster import Cluster


class Reporter:
    """Reports for the chief; silent on every other worker."""

    def __init__(
        self,
        run: workdirs.Run,
        cluster: Cluster,
        workdir: str,
        summaries: Summaries,
        start_step: int,
    ) -> None:
        self._run = run
        self._is_chief = cluster.is_chief
        self._workdir = workdir
        self._summaries = summaries
        self._images_per_step = run.config.training.batch_per_replica * run.num_replicas
        self.last: dict[str, Any] = workdirs.read_progress(workdir)
        if start_step:
            self._say(f"train: resuming at step {start_step} of {run.num_steps}")
        # Only in a terminal, and below the lines.
        self._live = tqdm(
            total=run.num_steps,
            initial=start_step,
            unit="step",
            file=sys.stderr,
            dynamic_ncols=True,
            leave=False,
            disable=None if cluster.is_chief else True,
        )

    def advance(self, num_steps: int, loss: float) -> None:
        """Move the live line."""
        self._live.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        self._live.update(num_steps)

    def report(
        self,
        step: int,
        made: Made,
        learning_rate: float,
        accuracy: dict[str, float],
        corrupt_records: int,
    ) -> None:
        """Report the steps up to `step`."""
        means = made.means
        images_per_second = self._images_per_step / made.seconds_per_step
        eta_seconds = (self._run.num_steps - step) * made.seconds_per_step
        self.last = {
            "step": step,
            "num_steps": self._run.num_steps,
            "complete": step == self._run.num_steps,
            "epoch": step * self._images_per_step / self._run.num_examples,
            "loss": means["loss"],
            "learning_rate": learning_rate,
            "images_per_second": images_per_second,
            "eta_seconds": eta_seconds,
            "checkpoint_step": workdirs.newest_checkpoint_step(self._workdir),
            "unix_time": time.time(),
            "train": means,
            "corrupt_records": corrupt_records,
            "validation": accuracy,
        }
        self._summaries.scalars(
            step,
            {
                **{f"train/{name}": value for name, value in means.items()},
                "train/total_loss": means["loss"] + means["regularization"],
                "train/learning_rate": learning_rate,
                "train/epoch": self.last["epoch"],
                "speed/images_per_second": images_per_second,
                "speed/milliseconds_per_step": 1000 * made.seconds_per_step,
            },
        )
        validation = f"  validation top-1 {accuracy['top1']:.4f}" if accuracy else ""
        self._say(
            f"train: step {step}/{self._run.num_steps}  loss {means['loss']:.4f}  "
            f"top-1 {means['top1']:.4f}  learning rate {learning_rate:.5f}  "
            f"{images_per_second:.0f} images/s  ETA {eta_seconds:.0f} s{validation}"
        )
        self._write()

    def complete(self, accuracy: dict[str, float]) -> None:
        """Report the end of a run whose last step is saved but was not reported."""
        self.last |= {
            "step": self._run.num_steps,
            "num_steps": self._run.num_steps,
            "complete": True,
            "validation": accuracy,
        }
        self._write()

    def close(self) -> None:
        """Remove the live line."""
        self._live.close()

    def _write(self) -> None:
        if self._is_chief:
            workdirs.write_progress(self._workdir, self.last)

    def _say(self, line: str) -> None:
        if self._is_chief:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()
