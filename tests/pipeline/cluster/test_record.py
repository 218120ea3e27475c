"""The record of a run fits into a ConfigMap until the end of the run."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from pipeline.cluster import launch, record
from pipeline.cluster.api.gateway import Gateway
from preprocessing.errors import UsageError
from tests.pipeline.cluster.fake_api import FakeApi

CONFIG_MAP_BYTES = 1 << 20


def num_bytes(run: record.Record) -> int:
    return sum(len(key) + len(text.encode()) for key, text in run.to_object()["data"].items())


def of_size(run: record.Record, size: int) -> record.Record:
    """Return the run with one more object, so that its record has `size` bytes."""

    def padded(characters: int) -> record.Record:
        note = copy.deepcopy(run.stages["train"][-1])
        note["metadata"]["annotations"] = {"note": "x" * characters}
        stages = {**run.stages, "train": [*run.stages["train"], note]}
        return dataclasses.replace(run, stages=stages)

    names = num_bytes(run) - sum(len(t.encode()) for t in run.to_object()["data"].values())
    return padded(size - num_bytes(padded(0)) + names)


def test_the_largest_run_that_is_taken_can_say_why_it_failed(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered
) -> None:
    largest = of_size(cpu_run.record, record.MAX_RENDERED_BYTES)
    created = record.create(gateway, largest)
    failed = created.with_state(outcome="failed", reason="\N{SNOWMAN}" * 500_000)
    assert num_bytes(failed) < CONFIG_MAP_BYTES
    assert record.write(gateway, failed).state.reason == failed.state.reason


def test_a_larger_one_is_refused_before_anything_is_kept(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered
) -> None:
    before = dict(api.objects)
    larger = of_size(cpu_run.record, record.MAX_RENDERED_BYTES + 1)
    with pytest.raises(UsageError, match=f"a record holds at most {record.MAX_RENDERED_BYTES:,}"):
        record.create(gateway, larger)
    assert api.objects == before
