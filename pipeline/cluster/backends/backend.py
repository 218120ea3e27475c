"""The contract of a cluster backend: a kind of job that can run a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """The software that a cluster needs for a kind of job.

    Attributes:
        crd: The name of the custom resource definition that it installs.
        title: Its name in a refusal, for example `JobSet`.
        purpose: What it is for, in the words of `doctor`.
        required: Whether a cluster without it is broken, not just limited.
        remedy: The question and command for an operator that ignores new jobs, if `doctor` should
            look for that.
    """

    crd: str
    title: str
    purpose: str
    required: bool = False
    remedy: str | None = None

    @property
    def group(self) -> str:
        """API group, for example `kubeflow.org`."""
        return self.crd.partition(".")[2]


class Backend(ABC):
    """A kind of job that can run a stage.

    Attributes:
        name: Value of `--backend`; None if the backend does not run the training stage.
        kind: Kind of its objects.
        resource: API path of its objects, without the namespace.
        operator: Software that the cluster needs; None if Kubernetes itself runs the job.
        job_name_label: Label by which a disruption budget selects a job's pods.
        replica_index_label: Label that holds a pod's index within the job.
        sdk_model: Model class of the Kubeflow SDK; None if requests go to the Kubernetes API.
        ending_conditions: Phase of a job whose condition of this type is true.
        replacement_event: Reason of the events that report a replaced pod; None if none do.
    """

    name: ClassVar[str | None]
    kind: ClassVar[str]
    resource: ClassVar[str]
    operator: ClassVar[Operator | None] = None
    job_name_label: ClassVar[str]
    replica_index_label: ClassVar[str] = "batch.kubernetes.io/job-completion-index"
    sdk_model: ClassVar[str | None] = None
    ending_conditions: ClassVar[Mapping[str, Literal["succeeded", "failed"]]] = MappingProxyType(
        {
            "Succeeded": "succeeded",
            "Complete": "succeeded",
            "Completed": "succeeded",
            "Failed": "failed",
        }
    )
    replacement_event: ClassVar[str | None] = None

    def from_tfjob(self, tfjob: Manifest) -> Manifest:
        """Return this backend's job for the training stage.

        Args:
            tfjob: The TFJob of one attempt with one replica type, `Worker`.
        """
        raise NotImplementedError(f"{self.kind} does not run the training stage")

    @abstractmethod
    def pod_template(self, job: Manifest) -> Manifest:
        """Return the pod template of a job, not a copy."""

    @property
    def resource_name(self) -> str:
        """Plural name of the kind, as kubectl takes it."""
        return self.resource.rpartition("/")[2]

    def suspend_patch(self, suspended: bool) -> Manifest:
        """Return the merge patch that suspends or resumes a job."""
        return {"spec": {"suspend": suspended}}

    def set_suspended(self, job: Manifest) -> None:
        """Make a job that is not submitted yet start suspended."""
        job["spec"]["suspend"] = True

    def is_suspended(self, job: Manifest) -> bool:
        """Return whether the job's specification suspends it."""
        return bool(job["spec"].get("suspend"))
