"""Progress of a run as people and tools read it: lines, a live line and `progress.json`."""

from __future__ import annotations

import dataclasses
import logging
import sys

from tqdm import tqdm

from preprocessing.progress import progress_bar
from training.metrics.accuracy import Accuracy
from training.workdir.progress import Progress
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir
from training.workers.cluster import Cluster

logger = logging.getLogger(__name__)


class Reporter:
    """Reports for the chief; silent on every other worker."""

    def __init__(self, run: Run, workdir: Workdir, cluster: Cluster, start_step: int) -> None:
        self._run = run
        self._is_chief = cluster.is_chief
        self._workdir = workdir
        if start_step:
            self._log(f"train: resuming at step {start_step} of {run.num_steps}")
        # Only in a terminal, and below the lines.
        self._live = progress_bar(
            total=run.num_steps,
            initial=start_step,
            desc="train",
            unit="step",
            leave=False,
            disable=None if cluster.is_chief else True,
        )

    def advance(self, num_steps: int, loss: float) -> None:
        """Move the live line."""
        self._live.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        self._live.update(num_steps)

    def report(self, progress: Progress) -> None:
        """Write a line and `progress.json`."""
        top1 = (progress.train or {})["top1"]
        accuracy = progress.validation
        validation = f"  validation top-1 {accuracy.top1:.4f}" if accuracy else ""
        self._log(
            f"train: step {progress.step}/{progress.num_steps}  loss {progress.loss:.4f}  "
            f"top-1 {top1:.4f}  learning rate {progress.learning_rate:.5f}  "
            f"{progress.images_per_second:.0f} images/s  ETA {progress.eta_seconds:.0f} s"
            f"{validation}"
        )
        self._write(progress)

    def complete(self, progress: Progress, accuracy: Accuracy) -> Progress:
        """Report the end of a run whose last step is saved but was not reported."""
        end = self._run.num_steps
        progress = dataclasses.replace(
            progress, step=end, num_steps=end, complete=True, validation=accuracy
        )
        self._write(progress)
        return progress

    def close(self) -> None:
        """Remove the live line."""
        self._live.close()

    def _write(self, progress: Progress) -> None:
        if self._is_chief:
            self._workdir.write_progress(progress)

    def _log(self, line: str) -> None:
        if self._is_chief:
            with tqdm.external_write_mode(file=sys.stderr):  # the live line stays below
                logger.info("%s", line)
