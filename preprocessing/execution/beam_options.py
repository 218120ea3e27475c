"""Options of Beam runners other than the local one, checked before anything is started.

    mobilenet prepare --source gs://S --records gs://R -- --runner=DataflowRunner \
        --project=P --region=REGION --temp_location=gs://B/tmp --sdk_container_image=IMAGE

IMAGE is the target `worker` of the Dockerfile: it holds this package, so no code is staged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from preprocessing import storage
from preprocessing.errors import UsageError

DATAFLOW = "dataflowrunner"
NEEDED_BY_DATAFLOW = ("project", "region", "temp_location", "sdk_container_image")


def beam_options(given: Sequence[str], *folders: str) -> list[str]:
    """Return the flags for Beam, completed for its runner.

    Args:
        given: The flags that the user wrote after `--`.
        folders: Folders that the workers must be able to read or write.

    Raises:
        UsageError: A flag is missing, or remote workers could not see a folder.
    """
    options = _parsed(given)
    if options.get("runner", "").lower() != DATAFLOW:
        return list(given)
    missing = [f"--{name}=" for name in NEEDED_BY_DATAFLOW if not options.get(name)]
    if missing:
        raise UsageError(f"DataflowRunner also needs {' '.join(missing)} after --")
    for folder in folders:
        if not storage.is_remote(folder):
            raise UsageError(
                f"Dataflow's workers cannot see the local folder {folder}; "
                "copy it to a bucket and pass gs://..."
            )
    return [
        *given,
        "--sdk_location=container",  # the image holds the whole package
        "--no_save_main_session",
    ]


def _parsed(given: Sequence[str]) -> dict[str, str]:
    """Return `--name=value`, `--name value` and `--name` as a dictionary."""
    options = {}
    for flag, following in pairwise([*given, "--"]):
        name, equals, value = flag.partition("=")
        if name.startswith("--"):
            options[name[2:]] = value if equals or following.startswith("-") else following
    return options
