"""TF_CONFIG for pods that no TensorFlow operator started: of an Indexed Job or a JobSet."""

from __future__ import annotations

import json
from collections.abc import Mapping

from preprocessing.errors import UsageError


def tf_config(environment: Mapping[str, str]) -> str:
    """TF_CONFIG from what an Indexed Job's pod knows.

    Args:
        environment: `MOBILENET_WORKERS` their number, `MOBILENET_WORKER_ADDRESS` the address of
            each with `{index}` in it, `JOB_COMPLETION_INDEX` which of them this is (set by
            Kubernetes).

    Returns:
        As the Training Operator writes it; empty for one worker alone, as there.

    Raises:
        UsageError: One of the three is missing or wrong.
    """
    try:
        count = int(environment["MOBILENET_WORKERS"])
        address = environment["MOBILENET_WORKER_ADDRESS"]
        index = int(environment["JOB_COMPLETION_INDEX"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            "MOBILENET_WORKERS needs MOBILENET_WORKER_ADDRESS and JOB_COMPLETION_INDEX beside it, "
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
