"""Rendered runs and their manifests."""

from __future__ import annotations

from typing import Any

from pipeline.cli.entry_point import parse
from pipeline.cluster import launch, render
from tests.pipeline.cluster.conftest import LOCAL

GPU_RUN = ["--variant=mobilenet_v2_1.0_224"]


def first(run: launch.Rendered, stage: str) -> dict[str, Any]:
    """Return the job of a stage's first attempt."""
    record = run.record
    return render.attempt(record.stages[stage], record.spec, record.name, 1)[0]


def gpu_run(layout: str, *flags: str) -> launch.Rendered:
    arguments = parse([*LOCAL, *GPU_RUN, f"--layout={layout}", *flags])
    return launch.from_arguments(arguments)[0]
