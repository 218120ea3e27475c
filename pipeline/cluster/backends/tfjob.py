"""TFJob: the Training Operator's kind, and the template of the training stage."""

from __future__ import annotations

from pipeline.cluster.backends.backend import Backend, Manifest, Operator


class TFJob(Backend):
    """A job of the Training Operator, which sets `TF_CONFIG`."""

    name = "tfjob"
    kind = "TFJob"
    resource = "apis/kubeflow.org/v1/tfjobs"
    operator = Operator(
        crd="tfjobs.kubeflow.org",
        title="the Training Operator (v1.9.4)",
        purpose="Training Operator: runs TFJobs (--backend tfjob)",
        required=True,
        remedy="the Training Operator has not looked at TFJob {name}; is it running? "
        "kubectl -n kubeflow logs deployment/training-operator",
    )
    job_name_label = "training.kubeflow.org/job-name"
    replica_index_label = "training.kubeflow.org/replica-index"
    sdk_model = "KubeflowOrgV1TFJob"
    replacement_event = "ExitedWithCode"

    def from_tfjob(self, tfjob: Manifest) -> Manifest:
        """Return the template itself."""
        return tfjob

    def pod_template(self, job: Manifest) -> Manifest:
        """Return the pod template of the workers."""
        template: Manifest = workers(job)["template"]
        return template

    def suspend_patch(self, suspended: bool) -> Manifest:
        """Return the patch of the run policy, which holds the field in a TFJob."""
        return {"spec": {"runPolicy": {"suspend": suspended}}}

    def set_suspended(self, job: Manifest) -> None:
        """Suspend a TFJob that is not submitted yet."""
        job["spec"]["runPolicy"]["suspend"] = True

    def is_suspended(self, job: Manifest) -> bool:
        """Return whether the run policy suspends the job."""
        return bool(job["spec"].get("runPolicy", {}).get("suspend"))


def workers(job: Manifest) -> Manifest:
    """Return the replica specification of a TFJob's workers."""
    replica_spec: Manifest = job["spec"]["tfReplicaSpecs"]["Worker"]
    return replica_spec
