"""`launch --with flink` for real: its command line, on a cluster of pods that loses one of them."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from benchmarks.photographs import write_archives
from preprocessing import storage
from preprocessing.shards import REPORTS
from tests.cluster.node.network import can_make_namespaces
from tests.conftest import ingest
from tests.emulator import Emulator
from tests.preprocessing.content import content
from tests.preprocessing.execution.flink_cluster import FlinkCluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first run builds and fetches

NUM_IMAGES = 3000
NUM_SHARDS = {"train": 96, "validation": 4}
SHARD = re.compile(r"(?:train|validation)-\d{5}-of-\d{5}")


@pytest.fixture
def cluster(emulator: Emulator, tmp_path: Path) -> Iterator[FlinkCluster]:
    if os.geteuid() or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        pytest.skip("pods need root, iproute2 and util-linux")
    if not can_make_namespaces():
        pytest.skip("pods need namespaces, which this machine's container does not let root make")
    with running_cluster(tmp_path / "pods", emulator) as running:
        yield running


def test_a_killed_task_manager_changes_no_byte(
    cluster: FlinkCluster, emulator: Emulator, tmp_path: Path
) -> None:
    archives, source = tmp_path / "archives", f"{emulator.bucket}/source"
    write_archives(str(archives), NUM_IMAGES, width=64, height=48, quality=85)
    fsspec.filesystem("gs").put(str(archives), source, recursive=True)
    records = f"{emulator.bucket}/records"
    flags = [f"--{split}-shards={count}" for split, count in NUM_SHARDS.items()]
    lost = cluster.task_managers[0]
    prepare_pod, prepare = cluster.start_prepare(source, records, *flags)
    while len(finished(records)) < 8:
        assert prepare.code() is None, prepare_pod.log()
        time.sleep(0.02)
    lost.kill()  # with its worker pool
    already, before = finished(records), versions(records)
    assert len(already) < sum(NUM_SHARDS.values()), "it was done before a pod could be killed"
    print(f"killed a task manager when {len(already)} shards were finished")
    cluster.start_task_manager()  # as Kubernetes does
    while prepare.code() is None:
        time.sleep(0.1)
    assert prepare.code() == 0, prepare_pod.log()
    assert f"'images': {NUM_IMAGES + 100}" in prepare_pod.log()
    (job,) = cluster.get("/jobs/overview")["jobs"]
    assert job["state"] == "FINISHED"
    details = cluster.get(f"/jobs/{job['jid']}")
    assert max(vertex["parallelism"] for vertex in details["vertices"]) == 32

    after = versions(records)
    assert {name: after[name] for name in already} == {name: before[name] for name in already}

    ingest(archives, tmp_path / "reference", num_shards=NUM_SHARDS)
    copy = tmp_path / "copy"
    fsspec.filesystem("gs").get(records, str(copy), recursive=True)
    assert content(copy) == content(tmp_path / "reference")


def finished(records: str) -> set[str]:
    """Return the shards that have a report."""
    names = storage.list_names(storage.join(records, REPORTS))
    return {name.removesuffix(".json") for name in names if SHARD.match(name)}


def versions(records: str) -> dict[str, str]:
    """Return the generation of each shard, which changes whenever it is written."""
    filesystem = fsspec.filesystem("gs")
    filesystem.invalidate_cache()
    objects = filesystem.find(records, maxdepth=1, detail=True)
    names = {path.rpartition("/")[2]: details for path, details in objects.items()}
    return {name: details["generation"] for name, details in names.items() if SHARD.match(name)}
