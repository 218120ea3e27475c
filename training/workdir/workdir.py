"""One training run on disk: `config.json`, `run.toml`, `checkpoints/`, `progress.json` and more.

TensorFlow is not imported here, so that a finished run is recognised at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.storage.contracts import ContractError, remedied
from training.config import run_files
from training.workdir import run_record
from training.workdir.evaluations import Evaluation, best_of
from training.workdir.progress import Progress
from training.workdir.run_record import Run


@dataclass(frozen=True, slots=True)
class Workdir:
    """The folder of one run, local or in a bucket: its paths and the content of its files."""

    path: str

    def __str__(self) -> str:
        return self.path

    @property
    def config_file(self) -> str:
        """File that describes the run."""
        return self.file(run_record.FILE)

    @property
    def run_file(self) -> str:
        """File with every setting, for `--config`."""
        return self.file(run_files.FILE)

    @property
    def progress_file(self) -> str:
        """File with the progress of the run."""
        return self.file("progress.json")

    @property
    def checkpoints_folder(self) -> str:
        """Folder of the checkpoints."""
        return self.file("checkpoints")

    @property
    def tensorboard_folder(self) -> str:
        """Folder of the event files."""
        return self.file("tensorboard")

    @property
    def final_evaluation_file(self) -> str:
        """File with the result of `mobilenet evaluate`."""
        return self.file("evaluation.json")

    def evaluation_file(self, step: int) -> str:
        """Return the file with the accuracy of the checkpoint of `step`, whoever measured it."""
        return storage.join(self.path, "evaluations", f"{step}.json")

    def file(self, name: str) -> str:
        """Return the path of a file of this folder."""
        return storage.join(self.path, name)

    def read_run(self) -> Run:
        """Read `config.json`.

        Raises:
            UsageError: The folder holds no training run.
            DataError: Another version of this program wrote it; names the first wrong place.
        """
        if not storage.exists(self.config_file):
            raise UsageError(f"{self} holds no training run; start one with `mobilenet train`")
        try:
            return Run.from_json(storage.read_json(self.config_file))
        except ContractError as error:
            raise DataError(f"{self.config_file} is not of this version ({error})") from error

    def claim(self, run: Run) -> None:
        """Make this folder the place of `run`, or check that it is.

        Raises:
            UsageError: The folder holds another run, or something else.
        """
        if storage.exists(self.config_file):
            self.require_same_run(self.read_run(), run)
            storage.make_folder(self.checkpoints_folder)
            if not storage.exists(self.run_file):
                storage.write_bytes(self.run_file, run_files.written(run.config))
            return
        foreign = [name for name in storage.list_names(self.path) if not name.startswith(".")]
        if foreign:
            raise UsageError(f"{self} holds {foreign[0]} and no run; choose another --workdir")
        self.write_run(run)

    def write_run(self, run: Run) -> None:
        """Write `config.json`, then `run.toml`, and make the folder of the checkpoints."""
        storage.make_folder(self.checkpoints_folder)
        storage.write_json(self.config_file, run.to_json())
        storage.write_bytes(self.run_file, run_files.written(run.config))

    def require_same_run(self, stored: Run, wanted: Run) -> None:
        """Refuse to continue with `wanted` where `stored` is.

        Raises:
            UsageError: The runs differ in what decides the result; names it.
        """
        changed = stored.differences(wanted)
        if changed:
            raise UsageError(
                f"{self} holds another run: {', '.join(changed)}; choose another --workdir for a "
                f"run from the beginning, or go on from here with --workdir NEW --fork {self}"
            )

    def checkpoint_steps(self) -> list[int]:
        """Return the steps of all complete checkpoints, newest first."""
        names = storage.list_names(self.checkpoints_folder)
        matches = (re.fullmatch(r"ckpt-(\d+)\.json", name) for name in names)
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def newest_checkpoint_step(self) -> int:
        """Return the step of the newest complete checkpoint, 0 if there is none."""
        return max(self.checkpoint_steps(), default=0)

    def best_checkpoint_step(self, steps: Iterable[int]) -> int:
        """Return which of the checkpoints of `steps` has the highest top-1, 0 if none has any."""
        best = best_of(self.read_evaluations(steps).values())
        return best.step if best else 0

    def result_step(self, run: Run) -> int:
        """Return the step of the checkpoint that is evaluated and exported, 0 if there is none."""
        steps = self.checkpoint_steps()
        best = self.best_checkpoint_step(steps) if run.config.evaluation.checkpoint == "best" else 0
        return best or max(steps, default=0)

    def weights_digest(self, step: int) -> str:
        """Return the digest of the checkpoint of `step`: equal for equal files; empty without one.

        A step does not say which weights a checkpoint holds: others may have been imported.
        """
        path = storage.join(self.checkpoints_folder, f"ckpt-{step}.json")
        return storage.digest_of(storage.read_json(path)) if storage.exists(path) else ""

    def clear_results(self) -> None:
        """Remove progress, evaluations and checkpoints, for other weights to take their place."""
        for path in (
            self.progress_file,
            self.final_evaluation_file,
            self.file("evaluations"),
            self.checkpoints_folder,
        ):
            storage.remove(path)

    def evaluated_steps(self) -> list[int]:
        """Return the steps that were evaluated, whether or not their checkpoints still exist."""
        names = storage.list_names(self.file("evaluations"))
        matches = (re.fullmatch(r"(\d+)\.json", name) for name in names)
        return sorted(int(match[1]) for match in matches if match)

    def read_evaluations(self, steps: Iterable[int]) -> dict[int, Evaluation]:
        """Return the evaluations of those of `steps` that were evaluated, by step.

        Raises:
            DataError: One of the files is damaged; names the first wrong place.
        """
        paths = {step: self.evaluation_file(step) for step in steps}
        with remedied("delete it; the next evaluation of that step makes it again"):
            return {
                step: Evaluation.from_json(storage.read_json(path), path)
                for step, path in paths.items()
                if storage.exists(path)
            }

    def write_evaluation(self, evaluation: Evaluation) -> None:
        """Write the accuracy of a checkpoint."""
        storage.make_folder(self.file("evaluations"))
        storage.write_json(self.evaluation_file(evaluation.step), evaluation.to_json())

    def read_progress(self) -> Progress:
        """Read `progress.json`; without it, nothing is done yet.

        Raises:
            DataError: The file is damaged; names the first wrong place.
        """
        if not storage.exists(self.progress_file):
            return Progress()
        with remedied("delete it; the run makes it again"):
            return Progress.from_json(storage.read_json(self.progress_file), self.progress_file)

    def write_progress(self, progress: Progress) -> None:
        """Replace `progress.json`."""
        storage.write_json(self.progress_file, progress.to_json())
