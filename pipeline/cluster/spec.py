"""What to run on a cluster: the variant and recipe, how many workers with how many GPUs each."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from preprocessing import storage
from preprocessing.errors import UsageError, did_you_mean
from training.models.variants import Variant

LAYOUTS = ("1x8", "2x4", "8x1")
# For `--with`; the layouts, `cpu` and `kueue` follow from other flags.
COMPONENTS = ("data-service", "flink", "gcsfuse", "jit-cache", "spot")
FINISHING = ("evaluate", "export", "publish")
GPU_RESOURCE = "nvidia.com/gpu"
MAX_NAME_LENGTH = 40  # `NAME-train-12-worker-7` is a host name, at most 63 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`workers` pods with `gpus_per_worker` GPUs each; none means CPU workers."""

    workers: int
    gpus_per_worker: int

    @property
    def name(self) -> str:
        """As `--layout` takes it: `2x4`, or `2xcpu`."""
        return f"{self.workers}x{self.gpus_per_worker or 'cpu'}"

    @property
    def gpus(self) -> int:
        """Of all workers together."""
        return self.workers * self.gpus_per_worker

    @property
    def replicas(self) -> int:
        """Model replicas: one per GPU, or one per CPU worker."""
        return self.gpus or self.workers

    @classmethod
    def choose(cls, gpus: int, layout: str | None, workers: int) -> Layout:
        """From `--gpus`, `--layout` and `--workers`.

        Raises:
            UsageError: They contradict each other, or there is no such layout.
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
        each, per_worker = map(int, name.split("x"))
        return cls(workers=each, gpus_per_worker=per_worker)


def _product(layout: str) -> int:
    workers, gpus = map(int, layout.split("x"))
    return workers * gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run on a cluster: everything that decides what is submitted."""

    variant: str
    recipe: str
    settings: tuple[str, ...]  # of --set
    layout: Layout
    overlay: str
    components: tuple[str, ...]
    backend: str
    queued: bool  # whether Kueue says when it starts
    prepare: bool  # whether ingest comes first

    @property
    def stages(self) -> tuple[str, ...]:
        """In order."""
        return (*(("prepare",) if self.prepare else ()), "train", *FINISHING)

    @property
    def default_name(self) -> str:
        """The same for the same run, so that launching it again finds it."""
        return f"{slug(self.variant)}-{self.digest[:6]}"

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return storage.digest_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        fields = dataclasses.asdict(self)
        return {**fields, "settings": list(self.settings), "components": list(self.components)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> RunSpec:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **fields,
                "settings": tuple(fields["settings"]),
                "components": tuple(fields["components"]),
                "layout": Layout(**fields["layout"]),
            }
        )


def slug(variant: str) -> str:
    """A variant as part of a host name: `mobilenet-v2-1-0-224`."""
    return re.sub(r"[^a-z0-9]+", "-", Variant.parse(variant).name)


def check_name(name: str) -> str:
    """A run's name as Kubernetes takes it.

    Raises:
        UsageError: It would not.
    """
    if len(name) > MAX_NAME_LENGTH or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        raise UsageError(
            f"--name {name!r} must be at most {MAX_NAME_LENGTH} lower-case letters, digits and "
            "hyphens, starting with a letter"
        )
    return name
