"""Beam's job server with an embedded Flink, from Maven Central, in the user's cache.

It consists of the libraries as which the runner is published; a jar that only names them starts
the server, so that Beam's `--flink_job_server_jar` accepts it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import platformdirs
import pytest

FLINK_VERSION = "1.19"
BEAM_VERSION = "2.70.0"  # of the server; its protocol is older than that and still Beam's
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>flink-job-server</artifactId><version>1</version>
  <dependencyManagement><dependencies>
    <dependency>
      <groupId>org.apache.beam</groupId><artifactId>beam-runners-java-job-service</artifactId>
      <version>2.65.0</version>
    </dependency>
  </dependencies></dependencyManagement>
  <dependencies>
    <dependency>
      <groupId>org.apache.beam</groupId>
      <artifactId>beam-runners-flink-{FLINK_VERSION}</artifactId>
      <version>{BEAM_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.30</version>
    </dependency>
  </dependencies>
</project>
"""
# Flink reflects on these; Java 17 forbids it unless told.
OPENED = " ".join(
    f"java.base/{package}"
    for package in (
        *("java.io", "java.lang", "java.lang.reflect", "java.net", "java.nio", "java.text"),
        *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
        *("java.util.concurrent.locks", "sun.nio.ch"),
    )
)


def job_server_jar() -> Path:
    """Fetch the server unless this user has it; needs Java and Maven."""
    missing = [name for name in ("java", "mvn") if not shutil.which(name)]
    if missing:
        pytest.fail(
            f"the Flink test needs {' and '.join(missing)}: install a Java runtime (11 or 17) "
            "and Maven, on Debian apt-get install default-jre-headless maven"
        )
    name = f"flink-{FLINK_VERSION}-beam-{BEAM_VERSION}"
    folder = platformdirs.user_cache_path("mobilenet-tests") / name
    folder.mkdir(parents=True, exist_ok=True)
    jar = folder / "job-server.jar"
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jar.exists():
            (folder / "pom.xml").write_text(POM)
            done = subprocess.run(
                [
                    *("mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies"),
                    *("-DincludeScope=runtime", f"-DoutputDirectory={folder / 'libraries'}"),
                ],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=800,
                check=False,
            )
            assert done.returncode == 0, done.stdout[-2000:]
            partial = folder / "job-server.partial"
            _write_jar(partial, sorted((folder / "libraries").glob("*.jar")))
            os.replace(partial, jar)
    return jar


def _write_jar(path: Path, libraries: list[Path]) -> None:
    manifest = {
        "Manifest-Version": "1.0",
        "Main-Class": "org.apache.beam.runners.flink.FlinkJobServerDriver",
        "Add-Opens": OPENED,
        "Class-Path": " ".join(library.as_uri() for library in libraries),
    }
    lines = []
    for name, value in manifest.items():
        line = f"{name}: {value}"
        while len(line) > 70:  # 72 bytes at most; what goes on starts with a space
            lines.append(line[:70])
            line = f" {line[70:]}"
        lines.append(line)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "\r\n".join([*lines, "", ""]))
