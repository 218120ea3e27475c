"""`launch --with flink` for real: its command line, on a cluster of pods that loses one of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from benchmarks.photographs import write_archives
from preprocessing import storage
from preprocessing.shards import REPORTS
from tests.conftest import ingest
from tests.emulator import Emulator
from tests.preprocessing.execution.flink_cluster import FlinkCluster, running_cluster

pytestmark = pytest.mark.slow

NUM_IMAGES = 3000
NUM_SHARDS = {"train": 48, "validation": 2}
SHARD = re.compile(r"(?:train|validation)-\d{5}-of-\d{5}")


@pytest.fixture
def cluster(emulator: Emulator, tmp_path: Path) -> Iterator[FlinkCluster]:
    if os.geteuid() or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        pytest.skip("pods need root, iproute2 and util-linux")
    namespaces = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true"]
    if subprocess.run(namespaces, capture_output=True, check=False).returncode:
        pytest.skip("pods need namespaces, which this machine's container does not let root make")
    with running_cluster(tmp_path / "pods", emulator) as running:
        yield running


@pytest.fixture
def source(emulator: Emulator, tmp_path: Path) -> str:
    """Put archives into the bucket."""
    archives = tmp_path / "archives"
    write_archives(str(archives), NUM_IMAGES, width=64, height=48, quality=85)
    fsspec.filesystem("gs").put(str(archives), f"{emulator.bucket}/source", recursive=True)
    return f"{emulator.bucket}/source"


def test_a_killed_task_manager_changes_no_byte(
    cluster: FlinkCluster, source: str, emulator: Emulator
) -> None:
    records = f"{emulator.bucket}/records"
    flags = [f"--{split}-shards={count}" for split, count in NUM_SHARDS.items()]
    lost = cluster.task_managers[0]
    prepare_pod, prepare = cluster.start_prepare(source, records, *flags)
    while len(finished(records)) < 8:
        assert prepare.code() is None, prepare_pod.log()
        time.sleep(0.02)
    lost.kill()
    already, killed_at = finished(records), len(emulator.requests)
    assert len(already) < sum(NUM_SHARDS.values()), "it was done before a pod could be killed"
    cluster.start_task_manager()  # as Kubernetes does
    while prepare.code() is None:
        time.sleep(0.1)
    assert prepare.code() == 0, prepare_pod.log()
    assert f"'images': {NUM_IMAGES + 100}" in prepare_pod.log()
    (job,) = cluster.get("/jobs/overview")["jobs"]
    assert job["state"] == "FINISHED"
    details = cluster.get(f"/jobs/{job['jid']}")
    assert max(vertex["parallelism"] for vertex in details["vertices"]) == 4

    again = writes(emulator.requests[killed_at:], records)
    assert not already & again.keys()  # what was finished is kept
    print(f"killed with {len(already)} shards finished; {sum(again.values())} writes afterwards")

    ingest(source, f"{emulator.bucket}/reference", num_shards=NUM_SHARDS)
    assert content(records) == content(f"{emulator.bucket}/reference")


def finished(records: str) -> set[str]:
    """Return the shards that have a report."""
    names = storage.list_names(storage.join(records, REPORTS))
    return {name.removesuffix(".json") for name in names if SHARD.match(name)}


def writes(requests: list[tuple[str, str]], records: str) -> Counter[str]:
    """Return how often each shard was written."""
    folder = records.split("/", 3)[3]
    return Counter(
        name
        for method, path in requests
        if method == "POST" and path.startswith(("/upload/", "/resumable"))
        for name in re.findall(rf"{folder}/({SHARD.pattern})(?:\b|$)", urllib.parse.unquote(path))
    )


def content(records: str) -> dict[str, bytes]:
    """Return the files of a folder, without those in folders below."""
    filesystem = fsspec.filesystem("gs")
    paths = filesystem.find(records, maxdepth=1)
    return {path.rpartition("/")[2]: filesystem.cat_file(path) for path in paths}
