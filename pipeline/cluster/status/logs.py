"""`mobilenet logs`: the output of a run's pods and of the pods that replace them."""

from __future__ import annotations

import threading
import time

from pipeline.cluster import record
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.backends import registry
from pipeline.cluster.record import Record
from pipeline.cluster.status import observe
from preprocessing.errors import PermanentError, RetryError, UsageError, did_you_mean

LOOK_SECONDS = 2.0


def chosen_stage(current: Record, wanted: str | None) -> str:
    """Return the wanted stage; without one, the present stage or the last that ran."""
    if wanted is None:
        return current.stage or current.spec.stages[-1]
    if wanted not in current.spec.stages:
        raise UsageError(f"--stage {wanted}: {did_you_mean(wanted, current.spec.stages)}")
    return wanted


def _pods(
    gateway: Gateway, current: Record, stage: str, worker: int | None
) -> tuple[observe.Pod, ...]:
    kind = registry.for_stage(current.spec.backend, stage).kind
    attempts, _ = observe.attempts(gateway, current.name, stage, kind)
    pods = attempts[-1].pods if attempts else ()
    return tuple(pod for pod in pods if worker is None or pod.index == worker)


def tail(gateway: Gateway, run: str, stage: str, worker: int | None, lines: int) -> None:
    """Print the last lines of each pod.

    Raises:
        UsageError: The stage has no such pod now.
    """
    current = record.read(gateway, run)
    pods = _pods(gateway, current, stage, worker)
    if not pods:
        raise UsageError(
            f"run {run} has no pod for {stage}"
            f"{'' if worker is None else f', worker {worker}'} now; see `mobilenet jobs`"
        )
    for pod in pods:
        for line in gateway.log_tail(pod.name, pod.container, lines).splitlines():
            _print(pod, line, len(pods) > 1)


def follow(gateway: Gateway, run: str, stage: str, worker: int | None) -> None:
    """Print the whole output of each pod, restarts included, until the stage ends."""
    followed: dict[str, threading.Thread] = {}
    while True:
        try:
            current = record.read(gateway, run)
            ended = current.finished or current.state.stopped or current.stage != stage
            for pod in _pods(gateway, current, stage, worker):
                if pod.phase == "Pending" or pod.uid in followed:
                    continue
                followed[pod.uid] = threading.Thread(
                    target=_follow, args=(gateway, pod), daemon=True
                )
                followed[pod.uid].start()
        except RetryError:
            ended = False  # the cluster will answer again; the streams go on meanwhile
        if ended and not any(thread.is_alive() for thread in followed.values()):
            return
        time.sleep(LOOK_SECONDS)


def _follow(gateway: Gateway, pod: observe.Pod) -> None:
    seen = 0
    while True:
        try:
            for number, line in enumerate(gateway.log_follow(pod.name, pod.container)):
                if number >= seen:
                    _print(pod, line, True)
                    seen = number + 1
            return
        except RetryError:  # after a broken connection, skip the lines that were printed
            time.sleep(LOOK_SECONDS)
        except PermanentError:
            return


def _print(pod: observe.Pod, line: str, named: bool) -> None:
    print(f"[{pod.index}] {line}" if named else line, flush=True)
