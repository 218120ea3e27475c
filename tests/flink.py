"""Flink and Beam's parts for it, from Maven Central and Go's proxy, in the user's cache."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import tempfile
import urllib.error
from pathlib import Path
from unittest import mock

from preprocessing.execution.flink import job_server
from tests.built_once import CACHE, UnreachableError, built_once
from tests.toolchain import ENVIRONMENT, ROOT, run_go

CLUSTER_LIBRARIES = ROOT / "tests" / "preprocessing" / "execution" / "flink_cluster.txt"
BEAM_BOOT = ROOT / "constraints" / "go" / "beam_boot"  # a Go module
BEAM_BOOT_PACKAGE = "github.com/apache/beam/sdks/v2/python/container"


def job_server_jar() -> Path:
    """Return the jar that the image `worker` carries, built once."""

    def build(jar: Path) -> None:
        with tempfile.TemporaryDirectory(dir=jar.parent) as scratch:
            libraries = job_server.read(job_server.LIBRARIES)
            job_server.merge(_download(libraries, Path(scratch)), jar)

    sources = (Path(job_server.__file__), job_server.LIBRARIES)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return built_once(CACHE / f"flink-job-server-{digest[:16]}" / "flink-job-server.jar", build)


def cluster_libraries(version: str) -> Path:
    """Return the folder of the jars of Flink itself, fetched once."""
    libraries = job_server.read(CLUSTER_LIBRARIES)
    assert ("flink-clients", version) in {(each.name, each.version) for each in libraries}

    def build(folder: Path) -> None:
        folder.mkdir()
        _download(libraries, folder)

    digest = hashlib.sha256(CLUSTER_LIBRARIES.read_bytes()).hexdigest()
    return built_once(CACHE / f"flink-{version}-{digest[:16]}", build)


def beam_boot() -> Path:
    """Return `/opt/apache/beam/boot` of Beam's images, built once."""

    def build(program: Path) -> None:
        run_go(
            *("build", "-p=2", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"),
            *(f"-o={program}", BEAM_BOOT_PACKAGE),
            module=BEAM_BOOT,
        )

    version = re.search(r"apache/beam/sdks/v2 (\S+)", (BEAM_BOOT / "go.mod").read_text())
    assert version
    return built_once(CACHE / f"beam-boot-{version[1]}" / "boot", build)


def _download(libraries: list[job_server.Library], folder: Path) -> list[Path]:
    try:
        with mock.patch.dict(os.environ, ENVIRONMENT, clear=True):  # proxies and certificates
            return job_server.download(libraries, folder)
    except urllib.error.URLError as error:
        if isinstance(error, urllib.error.HTTPError) or isinstance(error.reason, ssl.SSLError):
            raise
        raise UnreachableError(f"{libraries[0].host} does not answer") from error
