"""One training run on disk: `config.json`, `checkpoints/`, `tensorboard/`, `progress.json`.

TensorFlow is not imported here, so that a finished run is recognised in no time.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records.schema import Manifest
from training.config import RunConfig, differences, from_dict, to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What `config.json` says: the config and what it was resolved against."""

    config: RunConfig
    num_replicas: int
    num_classes: int
    num_examples: int
    records_digest: str  # empty for an imported checkpoint
    initial_checkpoint: str  # SHA-256 of the weights it started from, or empty
    git_commit: str
    versions: dict[str, str]

    @classmethod
    def create(
        cls, config: RunConfig, manifest: Manifest, num_replicas: int, initial_checkpoint: str = ""
    ) -> Run:
        """A new run on these records."""
        return cls(
            config=config,
            num_replicas=num_replicas,
            num_classes=len(manifest.classes),
            num_examples=manifest.num_examples("train"),
            records_digest=manifest.digest,
            initial_checkpoint=initial_checkpoint,
            **_provenance(),
        )

    @classmethod
    def imported(cls, config: RunConfig, num_classes: int, num_examples: int) -> Run:
        """A run that someone else made; its records are not known."""
        return cls(
            config=config,
            num_replicas=1,
            num_classes=num_classes,
            num_examples=num_examples,
            records_digest="",
            initial_checkpoint="",
            **_provenance(),
        )

    @property
    def num_steps(self) -> int:
        """Updates of the whole run."""
        return self.config.num_steps(self.num_replicas)

    @property
    def num_outputs(self) -> int:
        """Classes and the background."""
        return self.num_classes + 1

    @property
    def config_digest(self) -> str:
        """SHA-256 of what decides the result: not how often the host looks in."""
        return storage.digest_of(self._deciding())

    def differences(self, other: Run) -> list[str]:
        """What would make `other` another run than this one."""
        return differences(self._deciding(), other._deciding())

    def _deciding(self) -> dict[str, Any]:
        config = to_dict(self.config)
        del config["loop"], config["input"]
        return {
            "config": config,
            "num_replicas": self.num_replicas,
            "records_digest": self.records_digest,
            "initial_checkpoint": self.initial_checkpoint,
        }

    @classmethod
    def read(cls, workdir: str) -> Run:
        """Read `config.json`.

        Raises:
            UsageError: `workdir` is no training run.
        """
        path = storage.join(workdir, "config.json")
        if not storage.exists(path):
            raise UsageError(f"{workdir} holds no training run; start one with `mobilenet train`")
        fields = storage.read_json(path)
        try:
            return cls(**{**fields, "config": from_dict(fields["config"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is not of this version ({error})") from error

    def write(self, workdir: str) -> None:
        """Write `config.json`."""
        storage.write_json(
            storage.join(workdir, "config.json"),
            {**dataclasses.asdict(self), "config": to_dict(self.config)},
        )


def claim(workdir: str, run: Run) -> None:
    """Make `workdir` the place of `run`, or check that it is.

    Raises:
        UsageError: It holds another run, or something else.
    """
    if storage.exists(storage.join(workdir, "config.json")):
        require_same_run(workdir, Run.read(workdir), run)
        storage.make_folder(checkpoints_folder(workdir))
        return
    foreign = [name for name in storage.list_names(workdir) if not name.startswith(".")]
    if foreign:
        raise UsageError(f"{workdir} holds {foreign[0]} and no run; choose another --workdir")
    storage.make_folder(checkpoints_folder(workdir))
    run.write(workdir)


def require_same_run(workdir: str, there: Run, wanted: Run) -> None:
    """Refuse to go on with `wanted` where `there` is.

    Raises:
        UsageError: They differ in what decides the result; names it.
    """
    changed = there.differences(wanted)
    if changed:
        raise UsageError(
            f"{workdir} holds another run: {', '.join(changed)}; choose another --workdir"
        )


def checkpoints_folder(workdir: str) -> str:
    """Where checkpoints are."""
    return storage.join(workdir, "checkpoints")


def checkpoint_steps(workdir: str) -> list[int]:
    """Steps of all complete checkpoints, newest first."""
    names = storage.list_names(checkpoints_folder(workdir))
    found = (re.fullmatch(r"ckpt-(\d+)\.json", name) for name in names)
    return sorted((int(each[1]) for each in found if each), reverse=True)


def newest_checkpoint_step(workdir: str) -> int:
    """Step of the newest complete checkpoint, 0 if there is none."""
    return max(checkpoint_steps(workdir), default=0)


def evaluation_file(workdir: str, step: int) -> str:
    """Where the accuracy of the checkpoint of `step` is, whoever measured it."""
    return storage.join(workdir, "evaluations", f"{step}.json")


def read_evaluations(workdir: str, steps: Iterable[int]) -> dict[int, float]:
    """Top-1 by step, for those of `steps` that were evaluated."""
    paths = {step: evaluation_file(workdir, step) for step in steps}
    return {
        step: storage.read_json(path)["top1"]
        for step, path in paths.items()
        if storage.exists(path)
    }


def write_evaluation(workdir: str, step: int, accuracy: dict[str, float]) -> None:
    """Keep the accuracy of `step`."""
    storage.make_folder(storage.join(workdir, "evaluations"))
    storage.write_json(evaluation_file(workdir, step), {"step": step, **accuracy})


def tensorboard_folder(workdir: str) -> str:
    """Where event files are."""
    return storage.join(workdir, "tensorboard")


def read_progress(workdir: str) -> dict[str, Any]:
    """`progress.json`, or nothing done yet."""
    path = storage.join(workdir, "progress.json")
    progress: dict[str, Any] = (
        storage.read_json(path) if storage.exists(path) else {"step": 0, "complete": False}
    )
    return progress


def write_progress(workdir: str, progress: dict[str, Any]) -> None:
    """Replace `progress.json`."""
    storage.write_json(storage.join(workdir, "progress.json"), progress)


def checkpoint_digest(path: str) -> str:
    """SHA-256 of a slim checkpoint's content: a prefix, a folder or a `.tgz`."""
    data = f"{path}.data-00000-of-00001"
    for each in (data, path):
        if os.path.isfile(each):
            return storage.digest_of_file(each)
    names = [name for name in storage.list_names(path) if ".data-" in name]
    return storage.digest_of([storage.digest_of_file(storage.join(path, name)) for name in names])


def _provenance() -> dict[str, Any]:
    names = ("keras", "mobilenet-pipeline", "tensorflow")
    return {
        "git_commit": git_commit(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def git_commit() -> str:
    """The commit of this code, `-dirty` if changed since; `unknown` outside a checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("MOBILENET_GIT_COMMIT", "unknown")
    return described.stdout.strip()
