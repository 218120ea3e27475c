"""Observation of a run's attempts: phases, exit codes and reasons of waiting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.cluster.api.gateway import Gateway, Object
from pipeline.cluster.backends import registry
from pipeline.cluster.render import (
    ATTEMPT_LABEL,
    MANIFESTS_LABEL,
    QUEUE_LABEL,
    RUN_LABEL,
    STAGE_LABEL,
)

Phase = Literal["pending", "queued", "running", "restarting", "suspended", "succeeded", "failed"]
ENDED = ("succeeded", "failed")
IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
START_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of an attempt.

    Attributes:
        index: Index of the worker.
        exit_code: None while the pod runs, or if it was lost before it could report one.
        reason: Reason of waiting, or of an end from outside; None if all is well.
        created: Time of its creation, ISO 8601, UTC.
        node: Name of its node; empty before it has one.
    """

    name: str
    uid: str
    container: str
    index: int
    phase: str
    exit_code: int | None
    reason: str | None
    deleted: bool
    created: str = ""
    node: str = ""

    @property
    def ended(self) -> bool:
        """Whether all containers have ended."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One job of a stage.

    Attributes:
        kind: Kind of the job.
        name: Name of the job.
        number: Number of the attempt, from 1.
        phase: State of the job.
        message: Message of the condition that reports the phase.
        uid: Unique id of the job.
        manifests: Digest of the manifests that it was made of, see `render.digest`.
        pods: Pods of the job, ordered by index.
    """

    kind: str
    name: str
    number: int
    phase: Phase
    message: str
    uid: str
    manifests: str
    pods: tuple[Pod, ...]

    @property
    def ended(self) -> bool:
        """Whether the job succeeded or failed."""
        return self.phase in ENDED

    @property
    def suspended(self) -> bool:
        """Whether the job has no pods because its owner or Kueue suspended it."""
        return self.phase in ("suspended", "queued")

    @property
    def waited(self) -> bool:
        """Whether its workers never met, because one of them has not even started."""
        return any(pod.phase == "Pending" for pod in self.pods)

    @property
    def permanent_exit_code(self) -> int | None:
        """Exit code of a pod that a retry would not change, 1 to 127; None without one."""
        codes = [pod.exit_code for pod in self.pods if pod.exit_code]
        return next((code for code in codes if 0 < code < 128), None)


def attempts(gateway: Gateway, run: str, stage: str, kind: str) -> tuple[list[Attempt], int]:
    """Return the attempts of a stage that are still on the cluster, oldest first.

    Returns:
        The attempts, and the number of pods of the stage that have not ended, orphans included.
    """
    selector = f"{RUN_LABEL}={run},{STAGE_LABEL}={stage}"
    jobs = gateway.find(kind, selector)
    pods = gateway.find("Pod", selector)
    ordered = sorted((attempt_from(job, pods) for job in jobs), key=lambda tried: tried.number)
    return ordered, sum(not pod_from(pod).ended for pod in pods)


def attempt_from(job: Object, pods: list[Object]) -> Attempt:
    """Return the attempt that a job object and the run's pods describe."""
    number = job["metadata"]["labels"][ATTEMPT_LABEL]
    own = [pod_from(pod) for pod in pods if pod["metadata"]["labels"].get(ATTEMPT_LABEL) == number]
    phase, message = _phase(job, own)
    return Attempt(
        kind=job["kind"],
        name=job["metadata"]["name"],
        number=int(number),
        phase=phase,
        message=message,
        uid=job["metadata"].get("uid", ""),
        manifests=job["metadata"]["labels"].get(MANIFESTS_LABEL, ""),
        pods=tuple(sorted(own, key=lambda pod: pod.index)),
    )


def _phase(job: Object, pods: list[Pod]) -> tuple[Phase, str]:
    conditions = {
        condition["type"]: condition.get("message", "")
        for condition in job.get("status", {}).get("conditions") or []
        if condition["status"] == "True"
    }
    backend = registry.of_kind(job["kind"])
    for condition_type, phase in backend.ending_conditions.items():
        if condition_type in conditions:
            return phase, conditions[condition_type]
    if backend.is_suspended(job):
        queued = QUEUE_LABEL in job["metadata"].get("labels", {})
        return ("queued" if queued else "suspended"), conditions.get("Suspended", "")
    if "Restarting" in conditions:
        return "restarting", conditions["Restarting"]
    if pods and all(pod.phase == "Running" or pod.ended for pod in pods):
        return "running", ""
    return "pending", ""


def pod_from(pod: Object) -> Pod:
    """Return the pod that a pod object describes."""
    labels, status = pod["metadata"].get("labels", {}), pod.get("status", {})
    index_labels = dict.fromkeys(backend.replica_index_label for backend in registry.BACKENDS)
    index = next((labels[label] for label in index_labels if label in labels), "0")
    container = pod["spec"]["containers"][0]["name"]
    states = [
        container_status.get("state", {})
        for container_status in status.get("containerStatuses") or []
        if container_status["name"] == container
    ]
    terminated: dict[str, Any] = states[0].get("terminated") or {} if states else {}
    return Pod(
        name=pod["metadata"]["name"],
        uid=pod["metadata"].get("uid", ""),
        container=container,
        index=int(index),
        phase=status.get("phase", "Pending"),
        exit_code=terminated.get("exitCode"),
        reason=_reason(status, states[0] if states else {}, terminated),
        deleted="deletionTimestamp" in pod["metadata"],
        created=pod["metadata"].get("creationTimestamp", ""),
        node=pod["spec"].get("nodeName", ""),
    )


def _reason(
    status: dict[str, Any], state: dict[str, Any], terminated: dict[str, Any]
) -> str | None:
    """Return why a pod does not run and what to do; None if all is well."""
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"{status['reason']}: {status.get('message', '')}".rstrip(": ")
    if terminated.get("reason") == "OOMKilled":
        return "out of memory (OOMKilled): raise resources.limits.memory"
    waiting = state.get("waiting") or {}
    text = " ".join(str(waiting.get("message", "")).split())
    if waiting.get("reason") in IMAGE_REASONS:
        return f"image not pullable: {text or waiting['reason']}"
    if waiting.get("reason") in START_REASONS:
        return f"cannot start: {text or waiting['reason']}"
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"unschedulable: {condition.get('message') or condition.get('reason', '')}"
    return None


_QUOTA = re.compile(r"exceeded quota: (.*)")


def obstacle(gateway: Gateway, attempt: Attempt) -> str | None:
    """Return the obstacle of an attempt, from its pods and events; None without one.

    The obstacle of one that has failed is a pod that keeps the next attempt waiting.
    """
    if attempt.phase == "failed":
        return next((_remaining(pod) for pod in attempt.pods if not pod.ended), None)
    for pod in attempt.pods:
        if pod.reason and not pod.ended:
            return f"{_waiting(attempt)}{pod.name}: {pod.reason}"
    if attempt.phase != "pending":
        return None
    for event in reversed(gateway.events(attempt.name)):
        message = " ".join(str(event.get("message", "")).split())
        if match := _QUOTA.search(message):
            return f"no quota: {match[1]}"
        if event.get("type") == "Warning":
            return f"{event.get('reason')}: {message}"
    return None


def reason(gateway: Gateway, newest: Attempt | None, noted: str | None) -> str | None:
    """Return why a run makes no progress; None if it does.

    Args:
        gateway: The namespace.
        newest: The newest attempt of its stage.
        noted: The reason in its record, which is of the time before this attempt.
    """
    hindering = obstacle(gateway, newest) if newest else None
    return hindering or (noted if newest is None or newest.ended else None)


def _remaining(pod: Pod) -> str:
    return f"{pod.name} is not gone yet from node {pod.node}; the next attempt waits for that"


def _waiting(attempt: Attempt) -> str:
    """Return how many workers the others wait for, and since when; empty if there are no others."""
    waiting = [pod for pod in attempt.pods if pod.phase == "Pending"]
    if not waiting or len(attempt.pods) == 1:
        return ""
    since = min(pod.created for pod in waiting)[:16].replace("T", " ")
    return f"waiting for {len(waiting)} of {len(attempt.pods)} workers since {since} UTC; "
