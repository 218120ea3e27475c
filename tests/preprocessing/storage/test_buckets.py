"""A bucket serves like a folder, over a network that fails; the store is a real emulator."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from benchmarks.photographs import write_archives
from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.records.schema import MANIFEST, SPLITS, Manifest
from preprocessing.shards import PLANS, REPORTS
from tests.conftest import ingest
from tests.emulator import FAULTS, Emulator
from tests.preprocessing.content import content

SHARDS = {"train": 4, "validation": 2}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "archives"
    write_archives(str(folder), 100, width=160, height=120, quality=85)
    return folder


def upload(folder: Path, url: str) -> None:
    for path in folder.iterdir():
        with storage.open_write(storage.join(url, path.name)) as stream:
            stream.write(path.read_bytes())


def downloaded(url: str) -> dict[str, bytes]:
    return {
        entry.name: storage.read_bytes(storage.join(url, entry.name))
        for entry in storage.list_entries(url)
        if not entry.is_folder
    }


def test_what_is_written_is_read_back(emulator: Emulator) -> None:
    folder = f"{emulator.bucket}/folder"
    assert not storage.exists(folder)
    assert storage.list_names(folder) == []
    large = random.Random(0).randbytes(12 << 20)  # more than one request
    with storage.open_write(f"{folder}/large") as stream:
        stream.write(large)
        assert not storage.exists(f"{folder}/large")  # nothing before the end
    storage.write_json(f"{folder}/value.json", {"a": 1})
    assert storage.list_sizes(folder) == {"large": len(large), "value.json": 13}
    assert storage.exists(folder)
    assert storage.read_bytes(f"{folder}/large") == large
    assert storage.read_ranges([(f"{folder}/large", i * 7, i) for i in range(100)]) == [
        large[i * 7 : i * 8] for i in range(100)
    ]
    storage.remove(folder)
    storage.remove(folder)
    assert storage.list_names(folder) == []


def test_a_failed_write_leaves_the_old_object(emulator: Emulator) -> None:
    path = f"{emulator.bucket}/file"
    storage.write_bytes(path, b"old")

    def fail() -> None:
        with storage.open_write(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert storage.read_bytes(path) == b"old"
    assert storage.list_names(emulator.bucket) == ["file"]


def test_a_folder_is_removed_as_on_google_where_deletions_travel_together(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsspec.get_filesystem_class("gs"), "on_google", True)
    for name in ("records/a", "records/b/c", "records/b/d e%"):
        storage.write_bytes(f"{emulator.bucket}/{name}", b"x")
    storage.write_bytes(f"{emulator.bucket}/recordsbeside", b"x")
    storage.remove(f"{emulator.bucket}/records")
    assert ("POST", "/batch/storage/v1") in emulator.requests
    assert storage.list_names(emulator.bucket) == ["recordsbeside"]


@pytest.mark.slow
def test_ingest_over_a_failing_network_loses_and_doubles_nothing(
    flaky_emulator: Emulator, small: Path, tmp_path: Path
) -> None:
    ingest(small, tmp_path / "records", num_shards=SHARDS)
    source, records = f"{flaky_emulator.bucket}/source", f"{flaky_emulator.bucket}/records"
    upload(small, source)
    manifest = ingest(source, records, num_shards=SHARDS)
    assert manifest.digest == Manifest.read(str(tmp_path / "records")).digest
    stored = downloaded(records)
    assert set(stored) == set(content(tmp_path / "records"))
    for name, written in stored.items():
        if name != MANIFEST:  # it names the source
            assert written == (tmp_path / "records" / name).read_bytes()
    assert all(flaky_emulator.faults[fault] for fault in FAULTS), flaky_emulator.faults


@pytest.mark.slow
def test_a_killed_ingest_into_a_bucket_is_completed(
    emulator: Emulator, small: Path, tmp_path: Path
) -> None:
    shards = {"train": 64, "validation": 2}
    records = f"{emulator.bucket}/records"
    command = [
        *(sys.executable, "-m", "pipeline", "prepare", f"--source={small}"),
        *(f"--records={records}", "--train-shards=64", "--validation-shards=2"),
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "STORAGE_EMULATOR_HOST": emulator.url},
    ) as process:
        while process.poll() is None and len(reports(records)) < 5:
            time.sleep(0.01)
        process.kill()
    stored = reports(records)
    assert 5 <= len(stored) < 66
    before = {name: generation(f"{records}/{name}") for name in stored}
    assert not storage.exists(f"{records}/{MANIFEST}")
    with pytest.raises(UsageError, match=r"seed 0 \(now 1\)"):
        ingest(small, records, num_shards=shards, seed=1)
    written = ingest(small, records, num_shards=shards)
    assert written.digest == ingest(small, tmp_path / "records", num_shards=shards).digest
    assert {name: generation(f"{records}/{name}") for name in stored} == before  # not written again
    assert storage.list_names(storage.join(records, PLANS)) == []


def reports(records: str) -> list[str]:
    """Return the names of the finished shards."""
    names = storage.list_names(storage.join(records, REPORTS))
    return [name.removesuffix(".json") for name in names if name.startswith(SPLITS)]


def generation(path: str) -> str:
    """Return a number that changes with every write of an object."""
    info: dict[str, str] = fsspec.filesystem("gs", use_listings_cache=False).info(path)
    return info["generation"]
