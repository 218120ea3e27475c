"""The registry of cluster backends; a new one is a module and a line here."""

from __future__ import annotations

from pipeline.cluster.backends.backend import Backend, Operator
from pipeline.cluster.backends.batch_job import BatchJob
from pipeline.cluster.backends.jobset import JobSet
from pipeline.cluster.backends.tfjob import TFJob

BATCH_JOB = BatchJob()
BACKENDS: list[Backend] = [TFJob(), JobSet(), BATCH_JOB]


def names() -> tuple[str, ...]:
    """Return the values of `--backend`, the default first."""
    return tuple(backend.name for backend in BACKENDS if backend.name is not None)


def kinds() -> tuple[str, ...]:
    """Return the kinds of all backends."""
    return tuple(backend.kind for backend in BACKENDS)


def operators() -> list[Operator]:
    """Return the operators that any backend needs."""
    return [backend.operator for backend in BACKENDS if backend.operator is not None]


def find(kind: str) -> Backend | None:
    """Return the backend of a kind; None if objects of this kind are not jobs."""
    return next((backend for backend in BACKENDS if backend.kind == kind), None)


def of_kind(kind: str) -> Backend:
    """Return the backend of a kind of job.

    Raises:
        LookupError: No backend has this kind.
    """
    backend = find(kind)
    if backend is None:
        raise LookupError(f"no backend has kind {kind}; the kinds are {', '.join(kinds())}")
    return backend


def for_stage(name: str, stage: str) -> Backend:
    """Return the backend that runs a stage of a run whose `--backend` is `name`.

    Raises:
        LookupError: No backend has this name.
    """
    if stage != "train":
        return BATCH_JOB
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    raise LookupError(f"no backend is named {name}; the names are {', '.join(names())}")
