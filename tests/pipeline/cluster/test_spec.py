"""The name of a run follows from its specification, and nonsense is refused before rendering."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.cluster.launch import Rendered
from pipeline.cluster.spec import MAX_NAME_LENGTH, Layout, RunSpec, check_name, slug
from preprocessing.errors import UsageError
from training.models.variants import Variant, published_variants


def test_a_layout_is_workers_times_gpus() -> None:
    for name in ("1x8", "2x4", "8x1"):
        layout = Layout.choose(8, name, workers=2)
        assert (layout.name, layout.gpus, layout.replicas) == (name, 8, 8)
    cpu = Layout.choose(0, None, workers=3)
    assert (cpu.gpus, cpu.replicas, cpu.workers) == (0, 3, 3)


@pytest.mark.parametrize(("gpus", "layout"), [(8, "4x2"), (4, None), (0, "2x4"), (4, "2x4")])
def test_a_layout_that_is_not_there_is_refused(gpus: int, layout: str | None) -> None:
    with pytest.raises(UsageError, match=r"--layout|--gpus"):
        Layout.choose(gpus, layout, workers=2)


def test_every_variants_name_leaves_room_for_a_workers_host_name() -> None:
    for variant in published_variants():
        name = f"{slug(Variant.parse(variant))}-123456"
        assert check_name(name) == name
    longest = f"{'a' * MAX_NAME_LENGTH}-train-99-worker-0-7"  # of a JobSet
    assert len(longest) <= 63


@pytest.mark.parametrize("name", ["1st", "Upper", "under_score", "a" * 41, "", "ends-"])
def test_a_name_that_kubernetes_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        check_name(name)


def test_the_default_name_follows_from_everything_that_decides_the_run(cpu_run: Rendered) -> None:
    spec = cpu_run.record.spec
    changes: list[dict[str, object]] = [
        {"recipe": "published"},
        {"settings": ("seed=2",)},
        {"layout": Layout(workers=3, gpus_per_worker=0)},
        {"backend": "jobset"},
        {"prepare": True},
    ]
    others = [dataclasses.replace(spec, **change) for change in changes]  # type: ignore[arg-type]
    assert len({run_spec.default_name for run_spec in (spec, *others)}) == len(others) + 1


def test_a_spec_survives_its_record(cpu_run: Rendered) -> None:
    assert RunSpec.from_json(cpu_run.record.spec.to_json()) == cpu_run.record.spec
