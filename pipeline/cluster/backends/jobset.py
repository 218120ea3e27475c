"""The same job for clusters without the Training Operator: a TFJob as a JobSet.

JobSet restarts all workers together and counts: what the TFJob's operator does not do. The pods
get no TF_CONFIG from it; `training.workers.indexed_job` makes one of the environment given here.
"""

from __future__ import annotations

import copy
from typing import Any

PERMANENT_EXIT_CODES = [1, 2, 3, 4, 5, 6]  # preprocessing/errors.py
MAX_RESTARTS = 100  # of all workers, for exit codes of 128 and more; `watch` counts the fruitless
PORT = 2222


def to_jobset(tfjob: dict[str, Any]) -> dict[str, Any]:
    """The JobSet that runs what `tfjob` runs.

    Args:
        tfjob: With one replica type, `Worker`.

    Returns:
        A JobSet of one Indexed Job named `worker`; pod i is worker i, reachable as
        `NAME-worker-0-i.NAME:2222`.
    """
    worker = tfjob["spec"]["tfReplicaSpecs"]["Worker"]
    policy = tfjob["spec"]["runPolicy"]
    name, count = tfjob["metadata"]["name"], worker["replicas"]
    template = copy.deepcopy(worker["template"])
    template["spec"]["restartPolicy"] = "Never"
    template["spec"]["containers"][0]["env"] += [
        {"name": "MOBILENET_WORKERS", "value": str(count)},
        {"name": "MOBILENET_WORKER_ADDRESS", "value": f"{name}-worker-0-{{index}}.{name}:{PORT}"},
    ]
    spec: dict[str, Any] = {
        "suspend": policy["suspend"],
        "ttlSecondsAfterFinished": policy["ttlSecondsAfterFinished"],
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "successPolicy": {"operator": "All"},
        "failurePolicy": {
            "maxRestarts": MAX_RESTARTS,
            "rules": [
                {
                    "name": "permanent",
                    "action": "FailJobSet",
                    "onJobFailureReasons": ["PodFailurePolicy"],
                }
            ],
        },
        "replicatedJobs": [
            {
                "name": "worker",
                "replicas": 1,
                "template": {
                    "metadata": {"labels": template["metadata"]["labels"]},
                    "spec": {
                        "completionMode": "Indexed",
                        "completions": count,
                        "parallelism": count,
                        "backoffLimit": 0,
                        "podFailurePolicy": {
                            "rules": [
                                {
                                    "action": "FailJob",
                                    "onExitCodes": {
                                        "operator": "In",
                                        "values": PERMANENT_EXIT_CODES,
                                    },
                                }
                            ]
                        },
                        "template": template,
                    },
                },
            }
        ],
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": copy.deepcopy(tfjob["metadata"]),
        "spec": spec,
    }
