"""JobSet: the training stage on clusters without the Training Operator.

Unlike the Training Operator, JobSet restarts all workers together and counts the restarts. It does
not set TF_CONFIG; `training.workers.indexed_job` derives it from the environment set here.
"""

from __future__ import annotations

import copy
from typing import Any

from pipeline.cluster.backends.backend import Backend, Manifest, Operator
from pipeline.cluster.backends.tfjob import workers
from preprocessing.errors import PERMANENT_EXIT_CODES

# Restarts of all workers after exit codes of 128 and more; `watch` limits those without progress.
MAX_RESTARTS = 100
PORT = 2222


class JobSet(Backend):
    """A JobSet of one Indexed Job."""

    name = "jobset"
    kind = "JobSet"
    resource = "apis/jobset.x-k8s.io/v1alpha2/jobsets"
    operator = Operator(
        crd="jobsets.jobset.x-k8s.io",
        title="JobSet",
        purpose="JobSet: runs --backend jobset",
    )
    job_name_label = "jobset.sigs.k8s.io/jobset-name"

    def from_tfjob(self, tfjob: Manifest) -> Manifest:
        """Return the JobSet that runs the same pods."""
        return to_jobset(tfjob)

    def pod_template(self, job: Manifest) -> Manifest:
        """Return the pod template of the only replicated job."""
        (replicated,) = job["spec"]["replicatedJobs"]
        template: Manifest = replicated["template"]["spec"]["template"]
        return template


def to_jobset(tfjob: Manifest) -> Manifest:
    """Return the JobSet that runs what `tfjob` runs.

    Args:
        tfjob: A TFJob with one replica type, `Worker`.

    Returns:
        A JobSet of one Indexed Job named `worker`; pod i is worker i, reachable as
        `NAME-worker-0-i.NAME:2222`.
    """
    worker = workers(tfjob)
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
        "replicatedJobs": [_replicated_job(template, count)],
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": copy.deepcopy(tfjob["metadata"]),
        "spec": spec,
    }


def _replicated_job(template: Manifest, count: int) -> dict[str, Any]:
    """Return the Indexed Job of `count` workers, which ends for good on a permanent exit code."""
    return {
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
