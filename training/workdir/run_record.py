"""The contract of `config.json`: the settings of a run, its data and its code."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import subprocess
from dataclasses import dataclass
from typing import Any

from preprocessing import storage
from preprocessing.records.schema import Manifest
from preprocessing.storage import contracts
from preprocessing.storage.contracts import Count, Json, WholeNumber
from training.config import RunConfig, differences

FILE = "config.json"
PACKAGES = ("keras", "mobilenet-pipeline", "tensorflow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """The checkpoint of another run from which a run goes on with settings of its own.

    Attributes:
        workdir: Folder of the other run, as it was given.
        step: Step of the checkpoint.
        weights_digest: Digest of the checkpoint.
    """

    workdir: str
    step: Count
    weights_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training run.

    Attributes:
        config: Every setting.
        num_replicas: Replicas over all workers.
        num_classes: Classes, without the background.
        num_examples: Training images.
        records_digest: Digest of the records; None for an imported checkpoint.
        initial_checkpoint: SHA-256 of the weights that the run started from, or that were
            imported; None without any.
        fork: Where another run was left; None for a run from its beginning.
        git_commit: Commit of the code.
        versions: Versions of the packages that decide the result, by name.
    """

    config: RunConfig
    num_replicas: Count
    num_classes: Count
    num_examples: WholeNumber
    records_digest: str | None
    initial_checkpoint: str | None
    git_commit: str
    versions: dict[str, str]
    fork: Fork | None = None

    @classmethod
    def create(
        cls,
        config: RunConfig,
        manifest: Manifest,
        num_replicas: int,
        initial_checkpoint: str | None = None,
        fork: Fork | None = None,
    ) -> Run:
        """Return a new run on the records of `manifest`."""
        return cls(
            config=config,
            num_replicas=num_replicas,
            num_classes=len(manifest.classes),
            num_examples=manifest.num_examples("train"),
            records_digest=manifest.digest,
            initial_checkpoint=initial_checkpoint,
            git_commit=git_commit(),
            versions=_versions(),
            fork=fork,
        )

    @classmethod
    def imported(
        cls, config: RunConfig, num_classes: int, num_examples: int, checkpoint: str | None
    ) -> Run:
        """Return a run that someone else made; its records are not known.

        Args:
            config: The published recipe.
            num_classes: Classes, without the background.
            num_examples: Training images.
            checkpoint: SHA-256 of the imported weights, or None where no file holds them.
        """
        return cls(
            config=config,
            num_replicas=1,
            num_classes=num_classes,
            num_examples=num_examples,
            records_digest=None,
            initial_checkpoint=checkpoint,
            git_commit=git_commit(),
            versions=_versions(),
        )

    @property
    def num_steps(self) -> int:
        """Number of updates in the whole run."""
        return self.config.num_steps(self.num_replicas)

    @property
    def num_outputs(self) -> int:
        """Number of classes, with the background."""
        return self.num_classes + 1

    @property
    def config_digest(self) -> str:
        """SHA-256 of all that decides the result, without the rhythm of the host's work."""
        return storage.digest_of(self._deciding())

    def differences(self, wanted: Run) -> list[str]:
        """Return the settings that would make `wanted` another run than this one."""
        return differences(self._deciding(), wanted._deciding())

    def to_json(self) -> Json:
        """Return the fields by name; an empty string stands for None."""
        return {
            **{name: value for name, value in dataclasses.asdict(self).items() if name != "fork"},
            "config": self.config.to_json(),
            "records_digest": self.records_digest or "",
            "initial_checkpoint": self.initial_checkpoint or "",
            **({"fork": contracts.to_json(self.fork)} if self.fork else {}),
        }

    @classmethod
    def from_json(cls, value: Any, name: str = FILE) -> Run:
        """Read what `to_json` returned.

        Raises:
            ContractError: A field is missing, unknown or has a value of another type; names it.
            UsageError: A setting is out of its range.
        """
        run = contracts.from_json(cls, value, name)
        return dataclasses.replace(
            run,
            config=RunConfig.from_json(value["config"], f"{name}.config"),
            records_digest=run.records_digest or None,
            initial_checkpoint=run.initial_checkpoint or None,
        )

    def _deciding(self) -> Json:
        config = self.config.to_json()
        del config["loop"], config["input"]
        return {
            "config": config,
            "num_replicas": self.num_replicas,
            "records_digest": self.records_digest or "",
            # An import may be replaced by another: it lost no work of this project.
            "initial_checkpoint": (self.records_digest and self.initial_checkpoint) or "",
            **({"fork": self.fork.weights_digest} if self.fork else {}),
        }


def git_commit() -> str:
    """Return the commit of this code, `-dirty` if changed since; `unknown` outside a checkout.

    The repository around an installed package is not the one of this code, which it does not track.
    """
    try:
        _git("ls-files", "--error-unmatch", os.path.basename(__file__))
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("MOBILENET_GIT_COMMIT", "unknown")


def _git(*arguments: str) -> str:
    folder = os.path.dirname(os.path.abspath(__file__))
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}
