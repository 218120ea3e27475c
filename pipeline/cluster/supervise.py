"""Supervision: bring runs to their end, stop them, and let them go on."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from pipeline.cluster import record
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.api.refusals import ConflictError, LoggedOutError
from pipeline.cluster.backends import registry
from pipeline.cluster.record import Record
from pipeline.cluster.rounds import Rounds
from pipeline.cluster.status import observe
from pipeline.cluster.supervisor import Supervisor
from pipeline.cluster.watches import Changes
from preprocessing.errors import PermanentError, RetryError

LOOK_SECONDS = 10.0  # rounds come even without a change, because progress is in the logs
MAX_PAUSE_SECONDS = 60.0

logger = logging.getLogger(__name__)


def supervise(
    gateway: Gateway, runs: Sequence[str], *, stay: bool, tell: Callable[[str], None] = logger.info
) -> list[Record]:
    """Bring runs to their end, through all failures of the cluster.

    Args:
        gateway: The namespace.
        runs: Names of the runs; an empty sequence means all runs, new ones included.
        stay: When all have ended, wait for new ones.
        tell: Function that takes each line of progress.

    Returns:
        The records; every run is finished or stopped.

    Raises:
        PermanentError: Records of some runs are deleted or damaged; the other runs have ended.
    """
    rounds, changes, failures = Rounds(gateway, runs, tell), Changes(gateway), 0
    try:
        while True:
            changes.clear()
            try:
                ended = rounds.next()
            except RetryError as error:
                failures += 1
                if failures == 1:
                    tell(f"{error}; trying again until it does")
                _pause(gateway, error, failures)
                continue
            failures = 0
            if ended and not stay:
                if rounds.lost:
                    raise PermanentError("; ".join(rounds.lost.values()))
                return list(rounds.records.values())
            changes.wait(LOOK_SECONDS)
    finally:
        changes.stop()


def _pause(gateway: Gateway, error: RetryError, failures: int) -> None:
    if isinstance(error, LoggedOutError):
        gateway.reconnect()
    longest = min(MAX_PAUSE_SECONDS, 0.5 * 2 ** min(failures, 10))
    time.sleep(random.uniform(longest / 2, longest))


def stop(gateway: Gateway, run: str) -> Record:
    """Stop a run and take its pods away; its checkpoints stay."""
    _change(gateway, run, lambda current: current.with_state(stopped=True, reason=None))
    return Supervisor(gateway).advance(run)


def resume(gateway: Gateway, run: str) -> Record:
    """Let a stopped run go on, or a failed one from the stage that failed."""
    current = record.read(gateway, run)
    number = 0
    if current.stage:
        kind = registry.for_stage(current.spec.backend, current.stage).kind
        attempts, _ = observe.attempts(gateway, run, current.stage, kind)
        number = max((tried.number for tried in attempts if tried.phase == "failed"), default=0)

    def change(stored: Record) -> Record:
        if stored.state.outcome == "succeeded":
            return stored
        return stored.with_state(
            stopped=False,
            outcome=None,
            exit_code=0,
            reason=None,
            since=record.now().isoformat(),
            refused_since=None,
            acknowledged_attempt=number,
            counted_attempt=max(number, stored.state.counted_attempt),
            no_progress_count=0,
        )

    return _change(gateway, run, change)


def _change(gateway: Gateway, run: str, change: Callable[[Record], Record]) -> Record:
    while True:
        current = record.read(gateway, run)
        try:
            return record.write(gateway, change(current))
        except ConflictError:
            continue
