"""Beam's job server for Flink as one jar, made of the libraries that `job_server.txt` pins.

`prepare` submits it to a Flink cluster. Beam would download a job server for that, but pods of a
cluster cannot; so the image `worker` carries this one. `python job_server.py JAR` writes it, with
nothing of this project but the two files.
"""

from __future__ import annotations

import hashlib
import http.client
import sys
import tempfile
import textwrap
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from apache_beam.utils.retry import with_exponential_backoff
from apache_beam.utils.subprocess_server import JavaJarServer

LIBRARIES = Path(__file__).with_suffix(".txt")
# Flink reflects on these; Java 17 forbids it unless told.
OPENED_PACKAGES = (
    *("java.base/java.io", "java.base/java.lang", "java.base/java.lang.reflect"),
    *("java.base/java.net", "java.base/java.nio", "java.base/java.text", "java.base/java.time"),
    *("java.base/java.util", "java.base/java.util.concurrent"),
    *("java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks"),
    "java.base/sun.nio.ch",
)
MANIFEST = {
    "Manifest-Version": "1.0",
    "Main-Class": "org.apache.beam.runners.flink.FlinkJobServerDriver",
    "Add-Opens": " ".join(OPENED_PACKAGES),
    "Multi-Release": "true",
}
MANIFEST_PATH = "META-INF/MANIFEST.MF"
LINE_BYTES = 70  # at most 72 in a manifest, with the space that starts a continued line
SERVICES = "META-INF/services/"
SIGNATURES = (".SF", ".DSA", ".RSA", ".EC")  # which are not those of the whole
DATE = (2020, 1, 1, 0, 0, 0)  # of every entry, so that equal libraries make equal jars
CONNECTIONS = 8
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Library:
    """A jar of Maven Central and the SHA-256 of its content."""

    group: str
    name: str
    version: str
    digest: str

    @property
    def url(self) -> str:
        """Where Maven Central has it."""
        found: str = JavaJarServer.path_to_maven_jar(self.name, self.group, self.version)
        return found

    @property
    def host(self) -> str:
        """Who has it."""
        return str(urlsplit(self.url).hostname)

    @property
    def file_name(self) -> str:
        """What Maven calls the file."""
        return PurePosixPath(self.url).name

    def check(self, content: bytes) -> None:
        """Raise ValueError unless this is the content of the library."""
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.digest:
            raise ValueError(f"{self.url} has SHA-256 {digest}; {self.digest} is pinned")


def read(path: Path) -> list[Library]:
    """Return the libraries that a file pins: a line has the SHA-256 and `GROUP:NAME:VERSION`."""
    lines = (line for line in path.read_text().splitlines() if not line.startswith("#"))
    pinned = (line.replace(":", " ").split() for line in lines)
    return [Library(group, name, version, digest) for digest, group, name, version in pinned]


def download(libraries: list[Library], folder: Path) -> list[Path]:
    """Return the jars of the libraries, in their order, downloaded into a folder.

    Raises:
        urllib.error.URLError: Maven Central does not answer, or lacks one (`HTTPError`).
        ValueError: One has other content than is pinned.
    """
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        paths = []
        for library, content in zip(libraries, pool.map(_content, libraries), strict=True):
            library.check(content)
            paths.append(folder / library.file_name)
            paths[-1].write_bytes(content)
    return paths


def _is_passing(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, (OSError, http.client.HTTPException))


@with_exponential_backoff(num_retries=3, initial_delay_secs=1.0, retry_filter=_is_passing)
def _content(library: Library) -> bytes:
    with urllib.request.urlopen(library.url, timeout=TIMEOUT_SECONDS) as answer:
        content: bytes = answer.read()
    return content


def merge(jars: list[Path], merged: Path) -> None:
    """Write one jar with the content of all, under a manifest of its own.

    Of files with the same name, the first jar's is kept, as Java would find it. Lists of services
    become one list.
    """
    services: dict[str, bytes] = {}
    seen = {MANIFEST_PATH}
    with zipfile.ZipFile(merged, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(_entry(MANIFEST_PATH), _manifest())
        for jar in jars:
            with zipfile.ZipFile(jar) as opened:
                for name in opened.namelist():
                    if name.startswith(SERVICES) and not name.endswith("/"):
                        services[name] = services.get(name, b"") + opened.read(name) + b"\n"
                    elif name not in seen and not _is_left_out(name):
                        out.writestr(_entry(name), opened.read(name))
                        seen.add(name)
        for name, content in services.items():
            out.writestr(_entry(name), content)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _is_left_out(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        name.endswith("/")
        or path.name in ("module-info.class", "INDEX.LIST")
        or (str(path.parent) == "META-INF" and path.suffix in SIGNATURES)
    )


def _manifest() -> str:
    lines = []
    for name, value in MANIFEST.items():
        first, *others = textwrap.wrap(
            f"{name}: {value}", LINE_BYTES, drop_whitespace=False, break_on_hyphens=False
        )
        lines += [first, *(f" {rest}" for rest in others)]
    return "".join(f"{line}\r\n" for line in [*lines, ""])


def main() -> None:
    """Write the jar that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python job_server.py JAR")
    merged = Path(sys.argv[1])
    merged.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        merge(download(read(LIBRARIES), Path(scratch)), merged)


if __name__ == "__main__":
    main()
