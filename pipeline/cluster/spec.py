"""The specification of a run on a cluster: variant, recipe, number of workers and GPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from preprocessing import storage
from preprocessing.errors import UsageError, did_you_mean
from preprocessing.storage import contracts
from preprocessing.storage.contracts import AsText, Count, WholeNumber
from training.models.variants import Variant

LAYOUTS = ("1x8", "2x4", "8x1")
# Values of `--with`; the layouts, `cpu` and `kueue` follow from other flags.
COMPONENTS = ("data-service", "flink", "gcsfuse", "jit-cache", "spot")
FINISHING = ("evaluate", "export", "publish")
GPU_RESOURCE = "nvidia.com/gpu"
MAX_NAME_LENGTH = 40  # `NAME-train-12-worker-7` is a host name, at most 63 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`workers` pods with `gpus_per_worker` GPUs each; 0 means CPU workers."""

    workers: Count
    gpus_per_worker: WholeNumber

    @property
    def name(self) -> str:
        """Value of `--layout`: `2x4`, or `2xcpu`."""
        return f"{self.workers}x{self.gpus_per_worker or 'cpu'}"

    @property
    def gpus(self) -> int:
        """Number of GPUs of all workers together."""
        return self.workers * self.gpus_per_worker

    @property
    def replicas(self) -> int:
        """Model replicas: one per GPU, or one per CPU worker."""
        return self.gpus or self.workers

    @classmethod
    def choose(cls, gpus: int, layout: str | None, workers: int) -> Layout:
        """Return the layout that `--gpus`, `--layout` and `--workers` describe.

        Raises:
            UsageError: The flags contradict each other, or no layout fits them.
        """
        if gpus == 0:
            if layout:
                raise UsageError("--layout places GPUs; with --gpus 0 use --workers N")
            return cls(workers=workers, gpus_per_worker=0)
        fitting = [name for name in LAYOUTS if _product(name) == gpus]
        if not fitting:
            raise UsageError(
                f"--gpus {gpus}: there are layouts for 8 GPUs ({', '.join(LAYOUTS)}) and for none "
                "(--gpus 0 --workers N)"
            )
        name = layout or fitting[0]
        if name not in fitting:
            raise UsageError(f"--layout {name}: {did_you_mean(name, fitting)}")
        num_workers, per_worker = map(int, name.split("x"))
        return cls(workers=num_workers, gpus_per_worker=per_worker)


def _product(layout: str) -> int:
    workers, gpus = map(int, layout.split("x"))
    return workers * gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run on a cluster: everything that decides what is submitted.

    Attributes:
        variant: The network.
        recipe: Name of the recipe.
        settings: Values of `--set`.
        layout: Workers and GPUs.
        overlay: Name of the folder in `k8s/overlays`.
        components: Values of `--with`.
        backend: Name of the backend that runs the training stage.
        queued: Whether Kueue decides when the run starts.
        prepare: Whether ingest comes first.
    """

    variant: Annotated[Variant, AsText]
    recipe: str
    settings: tuple[str, ...]
    layout: Layout
    overlay: str
    components: tuple[str, ...]
    backend: str
    queued: bool
    prepare: bool

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages of the run in order."""
        return (*(("prepare",) if self.prepare else ()), "train", *FINISHING)

    @property
    def default_name(self) -> str:
        """Name that is the same for the same run, so that another launch finds it."""
        return f"{slug(self.variant)}-{self.digest[:6]}"

    @property
    def digest(self) -> str:
        """SHA-256 of the whole specification."""
        return storage.digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON-able values."""
        return contracts.to_json(self)

    @classmethod
    def from_json(cls, fields: Any) -> RunSpec:
        """Return the specification that `to_json` wrote.

        Raises:
            ContractError: A field is missing or wrong; the message names the first.
        """
        return contracts.from_json(cls, fields, "spec")


def slug(variant: Variant) -> str:
    """Return a variant as part of a host name: `mobilenet-v2-1-0-224`."""
    return re.sub(r"[^a-z0-9]+", "-", variant.name)


def check_name(name: str) -> str:
    """Return a run's name if Kubernetes accepts it.

    Raises:
        UsageError: Kubernetes would refuse the name.
    """
    if len(name) > MAX_NAME_LENGTH or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        raise UsageError(
            f"--name {name!r} must be at most {MAX_NAME_LENGTH} lower-case letters, digits and "
            "hyphens, starting with a letter"
        )
    return name
