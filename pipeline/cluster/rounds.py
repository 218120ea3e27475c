"""Rounds of supervision, in which no run waits for the failures of another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from pipeline.cluster import record
from pipeline.cluster.api import events
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.api.refusals import UnreachableError
from pipeline.cluster.backends import registry
from pipeline.cluster.record import NoRunError, Record, UnreadableError
from pipeline.cluster.render import RUN_LABEL
from pipeline.cluster.supervisor import Supervisor
from pipeline.cluster.turns import Turns
from preprocessing.errors import PermanentError, RetryError

logger = logging.getLogger(__name__)


class Rounds:
    """Rounds of supervision, in each of which every run has its turn.

    Each run is supervised on its own: one whose record is damaged, or whose jobs the cluster
    refuses, waits longer for its next turn, and the others do not wait for it.

    Attributes:
        records: The newest known record of each run.
        lost: Runs without a record that can be read, with the reason.
    """

    def __init__(
        self,
        gateway: Gateway,
        runs: Sequence[str],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the first round.

        Args:
            gateway: The namespace.
            runs: Names of the runs; an empty sequence means all runs of the namespace.
            tell: Function that takes each line of progress.
            clock: Function that returns the time in seconds.
        """
        self._gateway = gateway
        self._runs = runs
        self._tell = tell
        self._supervisor = Supervisor(gateway, tell)
        self._turns = Turns(clock)
        self.records: dict[str, Record] = {}
        self.lost: dict[str, str] = {}

    def next(self) -> bool:
        """Give every run its turn.

        Returns:
            Whether all runs are finished, stopped or lost.

        Raises:
            RetryError: The cluster does not answer, or not with the records.
        """
        versions = record.versions(self._gateway)
        names = self._runs or list(versions)
        self.records = {name: self.records[name] for name in names if name in self.records}
        for name in names:
            if self._turns.has(name) and not self._is_settled(name, versions.get(name)):
                self._turn(name)
        return all(name in self.lost or self._has_ended(name) for name in names)

    def _has_ended(self, name: str) -> bool:
        current = self.records.get(name)
        return current is not None and (current.finished or current.state.stopped)

    def _is_settled(self, name: str, version: str | None) -> bool:
        """Return whether a run is finished and nobody has changed its record since."""
        current = self.records.get(name)
        return current is not None and current.finished and current.version == version

    def _turn(self, name: str) -> None:
        try:
            self.records[name] = self._supervisor.advance(name)
        except UnreachableError:
            raise
        except NoRunError:
            self._set_back(name, _farewell(name), lost=bool(self._runs))
        except UnreadableError as error:
            self._set_back(name, str(error), lost=True)
        except (PermanentError, RetryError) as error:
            self._set_back(name, f"{name}: {error}; it is tried again, and the other runs go on")
        except Exception as error:  # an object that no version of the cluster should hold
            logger.debug("run %s", name, exc_info=True)
            self._set_back(name, f"{name}: {type(error).__name__}: {error}; it is tried again")
        else:
            self._turns.succeeded(name)
            self.lost.pop(name, None)

    def _set_back(self, name: str, message: str, *, lost: bool = False) -> None:
        if lost:
            self.records.pop(name, None)
            self.lost[name] = message
        if self._turns.set_back(name, message):
            self._tell(message)
            events.warn(self._gateway, name, message)


def _farewell(run: str) -> str:
    kinds = ",".join(backend.resource_name for backend in registry.BACKENDS)
    return (
        f"run {run}: its record was deleted, so it is no longer supervised; its jobs go on until "
        f"kubectl delete {kinds} -l {RUN_LABEL}={run}"
    )
