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
        }
    )
    folder: str = "/home/mobilenet"


def find(name: str, scratch: Path) -> Image | None:
    """Return the image `name`, whatever its registry and tag; None if it cannot be pulled.

    Args:
        name: As in the container's `image`.
        scratch: Folder for what the image needs written.
    """
    base = name.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    if base not in OURS or name.endswith(":missing"):
        return None
    programs = scratch / "image"
    programs.mkdir(parents=True, exist_ok=True)
    program = programs / "mobilenet"
    if not program.exists():
        program.write_text(PROGRAM)
        program.chmod(0o755)
    mounts = [("/usr", "/usr", True), ("/dev", "/dev", False)]
    mounts += [(path, path, True) for path in SETTINGS if Path(path).exists()]
    prefixes = {str(Path(sys.prefix).resolve()), str(Path(sys.base_prefix).resolve())}
    mounts += [(path, path, True) for path in sorted(prefixes) if not path.startswith("/usr")]
    # Folder by folder: the repository's own may be closed to the user that pods run as.
    mounts += [(str(REPOSITORY / name), f"/src/{name}", True) for name in COPIED]
    mounts.append((str(programs), "/opt/mobilenet/bin", True))
    return Image(mounts)
