"""The images: this machine's programs, and the repository as the Dockerfile installs it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from preprocessing import extensions

REPOSITORY = Path(__file__).parents[3]
PUSHED = "pushed"  # with this file in the folder, an image with tag `missing` is there after all
OURS = ("mobilenet-train", "mobilenet-train-gpu", "mobilenet-ingest", "mobilenet-registry")
COPIED = ("k8s", "pipeline", "preprocessing", "training")
SETTINGS = tuple(
    f"/etc/{name}"
    for name in (
        "alternatives",
        "group",
        "ld.so.cache",
        "localtime",
        "nsswitch.conf",
        "passwd",
        "ssl",
    )
)
EXTENSION = "/opt/mobilenet/shallow_family.py"
AUTHORITY = "/etc/authority.crt"  # inside; for Google's hosts, which the tests play
PYTHON = Path(sys.prefix).resolve()
PROGRAM = f"""#!/bin/sh
exec {PYTHON}/bin/python -m pipeline "$@"
"""


PYTHON_ENVIRONMENT = {
    "PATH": f"/opt/mobilenet/bin:{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": "/src",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Image:
    """The content that a container gets from its image.

    Attributes:
        mounts: Source, path inside and read-only.
        entry_point: Run before `args` unless the container has a `command`.
        environment: Variables.
        folder: Where the process starts.
    """

    mounts: list[tuple[str, str, bool]]
    entry_point: list[str] = field(default_factory=lambda: ["mobilenet"])
    environment: dict[str, str] = field(
        default_factory=lambda: {
            **PYTHON_ENVIRONMENT,
            "HOME": "/home/mobilenet",
            extensions.VARIABLE: EXTENSION,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "ORT_DISABLE_TELEMETRY": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **dict.fromkeys(("CURL_CA_BUNDLE", "SSL_CERT_FILE"), AUTHORITY),
        }
    )
    folder: str = "/home/mobilenet"


def make(scratch: Path, authority: Path) -> None:
    """Write what the images have in addition to this machine's files.

    Args:
        scratch: Folder for it.
        authority: Certificate that programs in the images trust.
    """
    write_program(scratch / "image" / "bin")
    trusted = scratch / "image" / "authority.crt"
    trusted.write_bytes(authority.read_bytes())
    trusted.chmod(0o644)


def write_program(folder: Path) -> None:
    """Make a folder with the program `mobilenet`, for /opt/mobilenet/bin."""
    folder.mkdir(parents=True)
    program = folder / "mobilenet"
    program.write_text(PROGRAM)
    program.chmod(0o755)


def system_mounts() -> list[tuple[str, str, bool]]:
    """Return what every image has of this machine."""
    settings = [(path, path, True) for path in SETTINGS if Path(path).exists()]
    return [("/usr", "/usr", True), ("/dev", "/dev", False), *settings]


def project_mounts(programs: Path) -> list[tuple[str, str, bool]]:
    """Return what our images have besides: Python, this repository, programs, and a family."""
    prefixes = {str(PYTHON), str(Path(sys.base_prefix).resolve())}
    return [
        *((path, path, True) for path in sorted(prefixes) if not path.startswith("/usr")),
        # Folder by folder: the repository's own may be closed to the user that pods run as.
        *((str(REPOSITORY / name), f"/src/{name}", True) for name in COPIED),
        (str(programs), "/opt/mobilenet/bin", True),
        (str(REPOSITORY / "tests" / "shallow_family.py"), EXTENSION, True),
    ]


def find(name: str, scratch: Path) -> Image | None:
    """Return the image `name`, whatever its registry and tag; None if it cannot be pulled.

    Args:
        name: As in the container's `image`.
        scratch: Folder in which `make` wrote.
    """
    base = name.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    is_missing = name.endswith(":missing") and not (scratch / PUSHED).exists()
    if base not in OURS or is_missing:
        return None
    ours = scratch / "image"
    mounts = [*system_mounts(), *project_mounts(ours / "bin")]
    return Image([*mounts, (str(ours / "authority.crt"), AUTHORITY, True)])
