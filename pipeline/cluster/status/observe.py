"""What a cluster shows of a run's attempts: phases, exit codes and why something waits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pipeline.cluster.api.gateway import Gateway, Object
from pipeline.cluster.backends import registry
from pipeline.cluster.render import ATTEMPT_LABEL, QUEUE_LABEL, RUN_LABEL, STAGE_LABEL

ENDED = ("succeeded", "failed")
IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
START_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of an attempt."""

    name: str
    uid: str
    container: str
    index: int
    phase: str
    exit_code: int | None  # None while it runs, or if it was lost before it could say
    reason: str  # why it waits, or how it ended if not by itself
    deleted: bool

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One job of a stage: a TFJob, JobSet or Job."""

    kind: str
    name: str
    number: int
    phase: str  # pending, queued, running, restarting, suspended, succeeded or failed
    message: str  # of the condition that says so
    uid: str
    pods: tuple[Pod, ...]

    @property
    def ended(self) -> bool:
        """Whether it succeeded or failed."""
        return self.phase in ENDED

    @property
    def suspended(self) -> bool:
        """Whether it has no pods because someone said so, be it Kueue."""
        return self.phase in ("suspended", "queued")

    @property
    def permanent_exit_code(self) -> int | None:
        """The exit code of a pod that a retry would not change: 1 to 127."""
        codes = [each.exit_code for each in self.pods if each.exit_code]
        return next((code for code in codes if 0 < code < 128), None)


def attempts(gateway: Gateway, run: str, stage: str, kind: str) -> tuple[list[Attempt], int]:
    """All attempts of a stage that are still on the cluster, oldest first.

    Returns:
        The attempts, and how many pods of the stage have not ended, orphans included.
    """
    selector = f"{RUN_LABEL}={run},{STAGE_LABEL}={stage}"
    jobs = gateway.find(kind, selector)
    pods = gateway.find("Pod", selector)
    found = sorted((attempt_from(job, pods) for job in jobs), key=lambda each: each.number)
    return found, sum(not pod_from(each).ended for each in pods)


def attempt_from(job: Object, pods: list[Object]) -> Attempt:
    """A job object and the run's pods, typed."""
    number = job["metadata"]["labels"][ATTEMPT_LABEL]
    mine = [
        pod_from(each) for each in pods if each["metadata"]["labels"].get(ATTEMPT_LABEL) == number
    ]
    phase, message = _phase(job, mine)
    return Attempt(
        kind=job["kind"],
        name=job["metadata"]["name"],
        number=int(number),
        phase=phase,
        message=message,
        uid=job["metadata"].get("uid", ""),
        pods=tuple(sorted(mine, key=lambda each: each.index)),
    )


def _phase(job: Object, pods: list[Pod]) -> tuple[str, str]:
    conditions = {
        each["type"]: each.get("message", "")
        for each in job.get("status", {}).get("conditions") or []
        if each["status"] == "True"
    }
    backend = registry.of_kind(job["kind"])
    for condition, phase in backend.ending_conditions.items():
        if condition in conditions:
            return phase, conditions[condition]
    if backend.is_suspended(job):
        queued = QUEUE_LABEL in job["metadata"].get("labels", {})
        return ("queued" if queued else "suspended"), conditions.get("Suspended", "")
    if "Restarting" in conditions:
        return "restarting", conditions["Restarting"]
    if pods and all(each.phase == "Running" or each.ended for each in pods):
        return "running", ""
    return "pending", ""


def pod_from(pod: Object) -> Pod:
    """A pod object, typed."""
    labels, status = pod["metadata"].get("labels", {}), pod.get("status", {})
    index_labels = dict.fromkeys(backend.replica_index_label for backend in registry.BACKENDS)
    index = next((labels[label] for label in index_labels if label in labels), "0")
    container = pod["spec"]["containers"][0]["name"]
    states = [
        each.get("state", {})
        for each in status.get("containerStatuses") or []
        if each["name"] == container
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
    )


def _reason(status: dict[str, Any], state: dict[str, Any], terminated: dict[str, Any]) -> str:
    """Why a pod does not run, in words that say what to do; empty if all is well."""
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
    return ""


_QUOTA = re.compile(r"exceeded quota: (.*)")


def obstacle(gateway: Gateway, attempt: Attempt) -> str:
    """Why an attempt does not get on, from its pods and events; empty if it does."""
    for pod in attempt.pods:
        if pod.reason and not pod.ended:
            return f"{pod.name}: {pod.reason}"
    if attempt.phase != "pending":
        return ""
    for event in reversed(gateway.events(attempt.name)):
        message = " ".join(str(event.get("message", "")).split())
        if found := _QUOTA.search(message):
            return f"no quota: {found[1]}"
        if event.get("type") == "Warning":
            return f"{event.get('reason')}: {message}"
    return ""
