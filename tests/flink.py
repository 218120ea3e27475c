"""Flink and Beam's parts for it, from Maven Central and Go's proxy, in the user's cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.built_once import BUILD_ENVIRONMENT, CACHE, built_once

REPOSITORY = Path(__file__).parents[1]
JOB_SERVER = REPOSITORY / "preprocessing" / "execution" / "flink"  # as the image `worker` builds it
BEAM_BOOT = REPOSITORY / "constraints" / "go" / "beam_boot"  # a Go module
BEAM_BOOT_PACKAGE = "github.com/apache/beam/sdks/v2/python/container"
CLUSTER_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>flink-cluster</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.flink</groupId><artifactId>flink-clients</artifactId>
      <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.flink</groupId><artifactId>flink-runtime-web</artifactId>
      <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


def job_server_jar() -> Path:
    """Return the jar that the image `worker` carries, built once; needs Java and Maven."""

    def build(jar: Path) -> None:
        project = jar.parent / "project"
        shutil.copytree(JOB_SERVER, project)
        _maven(project, "package")
        libraries = project / "target" / "libraries"
        assert _digests(libraries) == (project / "libraries.sha256").read_text()
        os.replace(project / "target" / jar.name, jar)

    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(JOB_SERVER.iterdir())))
    folder = CACHE / f"flink-job-server-{digest.hexdigest()[:16]}"
    return built_once(folder / "flink-job-server.jar", build)


def cluster_libraries(version: str) -> Path:
    """Return the folder of the jars of Flink itself, fetched once; needs Java and Maven."""

    def build(folder: Path) -> None:
        project = folder.parent / "project"
        project.mkdir()
        (project / "pom.xml").write_text(CLUSTER_POM.format(version=version))
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
        _maven(project, plugin, "-DincludeScope=runtime", f"-DoutputDirectory={folder}")

    return built_once(CACHE / f"flink-{version}", build)


def beam_boot() -> Path:
    """Return `/opt/apache/beam/boot` of Beam's images, built once; needs Go."""

    def build(program: Path) -> None:
        go = shutil.which("go")
        if not go:
            pytest.fail("the Flink test builds Beam's boot program: install Go 1.26 or newer")
        _run(
            *(go, "build", "-p=2", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"),
            *(f"-o={program}", BEAM_BOOT_PACKAGE),
            folder=BEAM_BOOT,
        )

    version = re.search(r"apache/beam/sdks/v2 (\S+)", (BEAM_BOOT / "go.mod").read_text())
    assert version
    return built_once(CACHE / f"beam-boot-{version[1]}" / "boot", build)


def opened_packages() -> list[str]:
    """Return what Java 17 has to open for Flink, which reflects on it."""
    manifest = re.search("<Add-Opens>(.*)</Add-Opens>", (JOB_SERVER / "pom.xml").read_text())
    assert manifest
    return manifest[1].split()


def _maven(project: Path, *arguments: str) -> None:
    missing = [name for name in ("java", "mvn") if not shutil.which(name)]
    if missing:
        pytest.fail(
            f"the Flink test needs {' and '.join(missing)}: install a Java runtime (11 or 17) "
            "and Maven, on Debian apt-get install default-jre-headless maven"
        )
    _run("mvn", "--quiet", "--batch-mode", *arguments, folder=project)


def _run(*command: str, folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=BUILD_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def _digests(folder: Path) -> str:
    """Return what `sha256sum *` prints in a folder."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in folder.iterdir()
    ]
    return "".join(sorted(lines, key=lambda line: line.split()[1]))
