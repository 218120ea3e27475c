"""The images: this machine's programs, and the repository as the Dockerfile installs it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
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
AUTHORITY = "/etc/authority.crt"  # inside; for Google's hosts, which the tests play
PROGRAM = f"""#!/bin/sh
exec {sys.executable} -m pipeline "$@"
"""


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
            "PATH": f"/opt/mobilenet/bin:{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": "/src",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/home/mobilenet",
            "MLFLOW_DISABLE_TELEMETRY": "true",
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
    programs = scratch / "image" / "bin"
    programs.mkdir(parents=True)
    program = programs / "mobilenet"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    trusted = scratch / "image" / "authority.crt"
    trusted.write_bytes(authority.read_bytes())
    trusted.chmod(0o644)


def find(name: str, scratch: Path) -> Image | None:
    """Return the image `name`, whatever its registry and tag; None if it cannot be pulled.

    Args:
        name: As in the container's `image`.
        scratch: Folder in which `make` wrote.
    """
    base = name.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    if base not in OURS or name.endswith(":missing"):
        return None
    mounts = [("/usr", "/usr", True), ("/dev", "/dev", False)]
    mounts += [(path, path, True) for path in SETTINGS if Path(path).exists()]
    prefixes = {str(Path(sys.prefix).resolve()), str(Path(sys.base_prefix).resolve())}
    mounts += [(path, path, True) for path in sorted(prefixes) if not path.startswith("/usr")]
    # Folder by folder: the repository's own may be closed to the user that pods run as.
    mounts += [(str(REPOSITORY / name), f"/src/{name}", True) for name in COPIED]
    mounts.append((str(scratch / "image" / "bin"), "/opt/mobilenet/bin", True))
    mounts.append((str(scratch / "image" / "authority.crt"), AUTHORITY, True))
    return Image(mounts)
