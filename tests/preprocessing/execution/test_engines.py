"""Every engine writes the same records, in any order, however often it is killed."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.photographs import write_archives
from preprocessing import storage
from preprocessing.records.schema import MANIFEST, Manifest
from preprocessing.shards import REPORTS
from preprocessing.sources import archives as official
from tests.conftest import ingest, mobilenet
from tests.emulator import Emulator
from tests.flink import job_server_jar
from tests.preprocessing.content import content
from tests.sessions import members, wait_until_gone
from tests.toolchain import java


@pytest.mark.parametrize("num_workers", [1, 2])
def test_one_and_two_processes(
    archives: Path, records: Path, tmp_path: Path, num_workers: int
) -> None:
    ingest(archives, tmp_path / "records", num_workers=num_workers)
    assert content(tmp_path / "records") == content(records)


def test_the_archives_written_in_reverse(archives: Path, records: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(archives, turned)
    reverse(turned / official.TRAIN_ARCHIVE)
    reverse(turned / official.VALIDATION_ARCHIVE)
    assert (turned / official.TRAIN_ARCHIVE).read_bytes() != (
        archives / official.TRAIN_ARCHIVE
    ).read_bytes()
    written = ingest(turned, tmp_path / "records")
    assert written.digest == Manifest.read(str(records)).digest


def reverse(path: Path) -> None:
    """Reverse the order of an archive and of the archives in it."""

    def turned(packed: bytes) -> bytes:
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(packed)) as old,
            tarfile.open(fileobj=out, mode="w") as new,
        ):
            for member in reversed(old.getmembers()):
                stream = old.extractfile(member)
                assert stream
                inner = stream.read()
                if member.name.endswith(".tar"):
                    inner = turned(inner)
                    member.size = len(inner)
                new.addfile(member, io.BytesIO(inner))
        return out.getvalue()

    path.write_bytes(turned(path.read_bytes()))


@pytest.mark.slow
def test_flink(archives: Path, records: Path, tmp_path: Path) -> None:
    outcome = mobilenet(
        "prepare",
        f"--source={archives}",
        f"--records={tmp_path / 'records'}",
        "--",
        "--runner=FlinkRunner",
        f"--flink_job_server_jar={job_server_jar()}",
        "--environment_type=LOOPBACK",
        "--parallelism=2",
        PATH=java().path,
    )
    assert outcome.code == 0, outcome.err
    assert "'images': 1797" in outcome.err
    assert content(tmp_path / "records") == content(records)


@pytest.mark.slow
def test_flink_hands_back_what_a_worker_found(archives: Path, tmp_path: Path) -> None:
    shutil.copytree(archives, tmp_path / "source")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "train-00000-of-00008").mkdir()  # cannot be replaced by a file
    (tmp_path / "records" / REPORTS).mkdir()
    outcome = mobilenet(
        "prepare",
        f"--source={tmp_path / 'source'}",
        f"--records={tmp_path / 'records'}",
        "--",
        "--runner=FlinkRunner",
        f"--flink_job_server_jar={job_server_jar()}",
        "--environment_type=LOOPBACK",
        PATH=java().path,
    )
    assert outcome.code == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith(f"mobilenet: {tmp_path}")
    assert "train-00000-of-00008" in last
    assert last.endswith("Is a directory")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write so many small images that there is time to interrupt."""
    folder = tmp_path_factory.mktemp("many") / "archives"
    write_archives(str(folder), 12_000, width=64, height=48, quality=85)
    return folder


@pytest.mark.slow
def test_killed_five_times_at_random_moments(many: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [
        *(sys.executable, "-m", "pipeline", "prepare", f"--source={many}", "--workers=2"),
        *("--train-shards=240", "--validation-shards=4"),
    ]
    subprocess.run([*command, f"--records={whole}"], check=True, capture_output=True)
    rng = random.Random(time.time_ns())
    for finished_shards in sorted(rng.sample(range(200), 5)):
        with subprocess.Popen(
            [*command, f"--records={broken}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            while process.poll() is None and num_reports(broken) < finished_shards:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            assert process.poll() is None, "it was done before it could be killed"
            process.send_signal(signal.SIGKILL)
        wait_until_gone(process.pid)
        assert not (broken / MANIFEST).exists()
    subprocess.run([*command, f"--records={broken}"], check=True, capture_output=True)
    assert content(broken) == content(whole)


def num_reports(records: Path) -> int:
    try:
        return sum(name.startswith(("train-", "val")) for name in os.listdir(records / REPORTS))
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("medium", ["local", "bucket"])
def test_of_three_at_once_one_writes_and_the_others_wait(
    archives: Path, tmp_path: Path, emulator: Emulator, medium: str
) -> None:
    folder = str(tmp_path) if medium == "local" else emulator.bucket
    command = [
        *(sys.executable, "-m", "pipeline", "prepare"),
        *(f"--source={archives}", f"--records={folder}/records"),
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert sum("nothing to do" in err for _, err in outputs) == 2
    assert len({out for out, _ in outputs}) == 1
    assert not [name for name in storage.list_names(f"{folder}/records") if ".partial" in name]


@pytest.mark.slow
def test_a_killed_worker_ends_in_one_line_and_a_rerun_goes_on(many: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    command = [
        *(sys.executable, "-m", "pipeline", "prepare", f"--source={many}", "--workers=2"),
        f"--records={records}",
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while process.poll() is None and not num_reports(records):
            time.sleep(0.002)
        workers = sorted(set(members(process.pid)) - {process.pid})
        os.kill(workers[-1], signal.SIGKILL)
        assert process.stderr
        last = process.stderr.read().splitlines()[-1]
    assert process.returncode == 143
    assert "a worker process was killed" in last
    again = mobilenet(*command[3:])
    assert again.code == 0, again.err
