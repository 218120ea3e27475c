"""Exports in buckets: complete or absent, and every command that reads exports reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.export import directory
from preprocessing import storage
from preprocessing.errors import UsageError
from tests.conftest import mobilenet
from tests.emulator import Emulator
from tests.pipeline.an_export import VARIANT, make_export, metrics_of

pytestmark = pytest.mark.slow

# An upload that stops before one of its requests and waits there to be killed.
UPLOADER = """
import sys
from pipeline.export import directory
from preprocessing import storage
from preprocessing.storage import retries

send, left = retries.retry, [int(sys.argv[3])]
def counted(path, operation):
    left[0] -= 1
    if left[0] < 0:
        print("reached", flush=True)
        sys.stdin.readline()
    return send(path, operation)
retries.retry = counted
storage.upload_folder(sys.argv[1], sys.argv[2], last=directory.METRICS)
"""

IMAGE = Path(__file__).parents[2] / "data" / "image0.jpg"


@pytest.fixture
def uploaded(emulator: Emulator, tmp_path: Path) -> str:
    """Return a small export in a bucket, whose local original is `tmp_path / "e"`."""
    folder = f"{emulator.bucket}/exports/{VARIANT}"
    storage.upload_folder(str(make_export(tmp_path / "e")), folder, last=directory.METRICS)
    return folder


def test_an_export_there_is_the_same_as_here(uploaded: str, tmp_path: Path) -> None:
    metrics = directory.read_metrics(uploaded)
    assert metrics == metrics_of(tmp_path / "e")
    directory.require_intact(uploaded, metrics)
    assert storage.list_files(uploaded) == storage.list_files(str(tmp_path / "e"))
    with directory.at_hand(uploaded) as local:
        directory.require_intact(local, metrics)
    assert not os.path.exists(local)


@pytest.mark.parametrize("requests", range(0, 36, 4))
def test_an_upload_killed_anywhere_is_absent_or_complete(
    emulator: Emulator, tmp_path: Path, requests: int
) -> None:
    """A new export replaces an older one; nobody ever sees a mixture."""
    folder = f"{emulator.bucket}/exports/{VARIANT}"
    old, new = (make_export(tmp_path / f"{top1}", top1=top1) for top1 in (0.9, 0.95))
    storage.upload_folder(str(old), folder, last=directory.METRICS)
    with subprocess.Popen(
        [sys.executable, "-c", UPLOADER, str(new), folder, str(requests)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        child.stdout.readline()
        child.kill()
    if directory.is_export(folder):
        directory.require_intact(folder, directory.read_metrics(folder))
    else:
        assert storage.is_unfinished_upload(folder)
    storage.upload_folder(str(new), folder, last=directory.METRICS)
    directory.require_intact(folder, metrics_of(new))
    assert not storage.is_unfinished_upload(folder)


def test_the_commands_that_read_exports_read_one_in_a_bucket(
    uploaded: str, emulator: Emulator, uri: str, tmp_path: Path
) -> None:
    to, registry = f"{emulator.bucket}/published", f"--registry={uri}"
    registered = mobilenet("register", uploaded, registry)
    assert registered.code == 0, registered.err
    outcome = mobilenet("publish", uploaded, registry)
    assert outcome.code == 0, outcome.err
    assert outcome.result["published"] == f"{emulator.bucket}/exports/published"
    assert mobilenet("publish", uploaded, registry, f"--to={to}").code == 0
    compared = mobilenet("compare", uploaded, tmp_path / "e", registry)
    assert compared.code == 0, compared.err
    assert compared.result["images"]["p_value"] == 1.0
    page = f"{emulator.bucket}/report.html"
    reported = mobilenet("report", uploaded, f"--output={page}")
    assert reported.code == 0, reported.err
    assert uploaded.encode() in storage.read_bytes(page)
    assert VARIANT in mobilenet("table", f"--published={to}").out
    predicted = mobilenet("predict", str(IMAGE), f"--model={uploaded}")
    assert "no format that can be opened" in predicted.err


def test_a_folder_of_other_files_is_no_export_and_is_left_alone(emulator: Emulator) -> None:
    folder = f"{emulator.bucket}/mine"
    storage.write_bytes(f"{folder}/file", b"mine")
    with pytest.raises(UsageError, match=r"has no metrics\.json"), directory.at_hand(folder):
        pass
    for command in ("publish", "benchmark", "register"):
        outcome = mobilenet(command, folder)
        assert outcome.code == 2
        assert "has no metrics.json" in outcome.err
    assert storage.read_bytes(f"{folder}/file") == b"mine"
