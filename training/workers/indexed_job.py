"""TF_CONFIG for pods of an Indexed Job or a JobSet, which no TensorFlow operator started."""

from __future__ import annotations

import json
from collections.abc import Mapping

from preprocessing.errors import UsageError


def tf_config(environment: Mapping[str, str]) -> str:
    """Return the TF_CONFIG that follows from the environment of an Indexed Job's pod.

    Args:
        environment: `MOBILENET_WORKERS`, the number of workers; `MOBILENET_WORKER_ADDRESS`, the
            address of each, with `{index}` in it; `JOB_COMPLETION_INDEX`, the index of this worker
            (set by Kubernetes).

    Returns:
        The text that the Training Operator would write; empty for a single worker, as there.

    Raises:
        UsageError: One of the three is missing or wrong.
    """
    try:
        count = int(environment["MOBILENET_WORKERS"])
        address = environment["MOBILENET_WORKER_ADDRESS"]
        index = int(environment["JOB_COMPLETION_INDEX"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            "MOBILENET_WORKERS needs MOBILENET_WORKER_ADDRESS and JOB_COMPLETION_INDEX, "
            f"both numbers whole ({error!r}); only an Indexed Job sets them"
        ) from None
    if "{index}" not in address or not 0 <= index < count:
        raise UsageError(
            f"MOBILENET_WORKER_ADDRESS must contain {{index}} and JOB_COMPLETION_INDEX be below "
            f"MOBILENET_WORKERS, got {address!r}, {index} and {count}"
        )
    if count == 1:
        return ""
    workers = [address.replace("{index}", str(worker)) for worker in range(count)]
    return json.dumps(
        {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": index},
            "environment": "cloud",
        }
    )
