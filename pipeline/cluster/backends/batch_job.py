"""Batch Job: the kind of all stages except training."""

from __future__ import annotations

from pipeline.cluster.backends.backend import Backend, Manifest


class BatchJob(Backend):
    """A Job of Kubernetes itself."""

    name = None
    kind = "Job"
    resource = "apis/batch/v1/jobs"
    job_name_label = "batch.kubernetes.io/job-name"

    def pod_template(self, job: Manifest) -> Manifest:
        """Return the Job's pod template."""
        template: Manifest = job["spec"]["template"]
        return template
