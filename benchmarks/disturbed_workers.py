"""Workers that are disturbed, each on a machine of its own, and started again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lossy_network import LossyNetwork, address_of, processes_on
from tests.training.faults import BATCH, STARTUP_SECONDS, STEP_SECONDS, arguments
from tests.training.small_runs import tensors
from tests.training.supervisor import start_worker

STEPS = 60
CHECKPOINT_EVERY = 10
PORT = 7000
HANG_SECONDS = STEP_SECONDS  # without a step while the workers are connected
POLL_SECONDS = 0.05
FREEZE_SECONDS = 15.0
AWAY_SECONDS = 45.0  # longer than the lease on the workdir

KINDS = {
    "kill": "a worker is killed",
    "kill all": "all workers are killed",
    "stop": "a worker is asked to end",
    "interrupt twice": "a worker gets Ctrl-C twice",
    "freeze": f"a worker freezes for {FREEZE_SECONDS:.0f} s",
    "link 4": "a link is down for 4 s",
    "link 12": "a link is down for 12 s",
    "link 35": "a link is down for 35 s",
    "give up": f"a worker freezes, is replaced, and comes back after {AWAY_SECONDS:.0f} s",
    "truncate": "the newest of some checkpoints is truncated, then all workers are killed",
}


@dataclass
class Fault:
    """A fault and its consequences.

    Attributes:
        kind: A key of `KINDS`.
        worker: The worker that it is done to.
        while_starting: Whether it comes before the first step.
        delay: Seconds or, once it trains, steps until it comes.
        notice_seconds: Time until the last of the other workers ended; None if they went on.
    """

    kind: str
    worker: int
    while_starting: bool
    delay: int
    notice_seconds: float | None = None


@dataclass
class Result:
    """The end of a schedule."""

    workers: int
    seed: int
    faults: list[Fault] = field(default_factory=list)
    digest: str = ""
    problem: str = ""
    seconds: float = 0.0
    longest_pause_seconds: float = 0.0


class Hang(Exception):  # noqa: N818
    """No step for too long."""


class Cluster:
    """The workers of one schedule."""

    def __init__(
        self,
        records: Path,
        folder: Path,
        network: LossyNetwork,
        prefixes: Sequence[Sequence[str]],
        result: Result,
    ) -> None:
        self._workdir = folder / "workdir"
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True)
        self._network = network
        self._prefixes = prefixes
        self._arguments = [
            *arguments(records),
            f"--workdir={self._workdir}",
            f"--set=training.total_images={STEPS * BATCH * result.workers}",
            f"--set=loop.checkpoint_every_steps={CHECKPOINT_EVERY}",
        ]
        self._result = result
        self._starts = 0
        self._port = PORT
        self._away: list[tuple[subprocess.Popen[bytes], bool]] = []  # and if it was missed
        self._moved = time.monotonic()
        self._step = 0
        self._workers = [self._start(index) for index in range(len(prefixes))]

    def run(self) -> None:
        """Run the schedule to its end.

        Raises:
            Hang: Nothing moved.
            AssertionError: A worker failed for good, or something is left behind.
        """
        try:
            for fault in self._result.faults:
                if fault.while_starting:
                    self._wait_seconds(fault.delay)
                else:
                    self._wait_steps(fault.delay)
                if all(worker.poll() == 0 for worker in self._workers):
                    break
                self._inflict(fault)
            while any(worker.poll() != 0 for worker in self._workers):
                self._look()
            for worker, missed in self._away:
                worker.send_signal(signal.SIGCONT)
                # Its watchdog may end it by a signal, because all that time has passed. If the
                # others had only waited for it, they still do, and it trains with them.
                code = worker.wait(HANG_SECONDS)
                assert code != 0 or not missed, "a worker that was given up went on"
        finally:
            for worker in [*self._workers, *(worker for worker, _ in self._away)]:
                worker.kill()
                worker.wait()
        left = [process for prefix in self._prefixes for process in processes_on(prefix)]
        assert not left, f"left behind: {left}"

    def digest(self) -> str:
        """Return the digest of all tensors of the last checkpoint."""
        digest = hashlib.sha256()
        for name, value in sorted(tensors(self._workdir).items()):
            digest.update(name.encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def _inflict(self, fault: Fault) -> None:
        target = self._workers[fault.worker]
        others = [worker for worker in self._workers if worker is not target]
        at = time.monotonic()
        kind, _, seconds = fault.kind.partition(" ")
        until = at + HANG_SECONDS
        if kind == "kill":
            for worker in self._workers if seconds == "all" else [target]:
                worker.kill()
        elif kind == "truncate":
            for worker in self._workers:
                worker.kill()
            self._truncate_newest()
        elif kind == "stop":
            target.terminate()
        elif kind == "interrupt":
            target.send_signal(signal.SIGINT)
            time.sleep(0.2)
            target.send_signal(signal.SIGINT)
        elif kind == "give":
            target.send_signal(signal.SIGSTOP)
        elif kind == "freeze":
            target.send_signal(signal.SIGSTOP)
            until = at + FREEZE_SECONDS
        else:
            self._network.take_down(fault.worker, float(seconds))
            until = at + float(seconds)
        while time.monotonic() < until and any(worker.poll() is None for worker in others):
            time.sleep(POLL_SECONDS)
        if all(worker.poll() is not None for worker in others):
            fault.notice_seconds = round(time.monotonic() - at, 1)
        if kind == "give":
            self._replace(fault.worker, missed=fault.notice_seconds is not None)
        if kind == "freeze":
            time.sleep(max(0.0, until - time.monotonic()))
            target.send_signal(signal.SIGCONT)
        self._moved = time.monotonic()

    def _replace(self, index: int, *, missed: bool) -> None:
        """Start another worker in the place of one that does not answer, on other ports."""
        away = self._workers[index]
        self._away.append((away, missed))
        back = threading.Timer(AWAY_SECONDS, away.send_signal, [signal.SIGCONT])
        back.daemon = True
        back.start()
        self._port += 1
        self._workers[index] = self._start(index)

    def _truncate_newest(self) -> None:
        newest = sorted(
            (self._workdir / "checkpoints").glob("ckpt-*.data-00000-of-00001"),
            key=lambda path: int(re.findall(r"\d+", path.name)[0]),
        )
        if len(newest) > 1:  # a run whose only checkpoint is damaged ends for good
            os.truncate(newest[-1], newest[-1].stat().st_size // 2)

    def _wait_seconds(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look()

    def _wait_steps(self, steps: int) -> None:
        """Wait until that many steps are made after the first one that is reported from now on."""
        first = None
        while any(worker.poll() != 0 for worker in self._workers):
            moved = self._moved
            self._look()
            if self._step and self._moved != moved and first is None:
                first = self._step
            if first is not None and self._step >= min(first + steps, STEPS - 1):
                return

    def _look(self) -> None:
        """Start again what has ended, and note what moves.

        Raises:
            Hang: Nothing moved for too long.
        """
        time.sleep(POLL_SECONDS)
        for index, worker in enumerate(self._workers):
            code = worker.poll()
            if code:
                assert code < 0 or code >= 128, f"worker {index} ended with {code}"
                self._workers[index] = self._start(index)
                self._step = 0
        step = self._reported()
        if step and step != self._step:
            self._note_pause()
            self._step, self._moved = step, time.monotonic()
        if all(worker.poll() == 0 for worker in self._workers):
            return
        limit = HANG_SECONDS if self._step else STARTUP_SECONDS
        if time.monotonic() - self._moved > limit:
            raise Hang(f"no step for {limit} s after step {self._step}")

    def _note_pause(self) -> None:
        if self._step:
            pause = round(time.monotonic() - self._moved, 1)
            self._result.longest_pause_seconds = max(pause, self._result.longest_pause_seconds)

    def _reported(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((self._workdir / "progress.json").read_text())["step"])
        return 0

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        self._starts += 1
        self._moved = time.monotonic()
        if index == 0:
            (self._workdir / "progress.json").unlink(missing_ok=True)
        machines = range(self._result.workers)
        return start_worker(
            self._arguments,
            [f"{address_of(machine)}:{self._port}" for machine in machines],
            index,
            self._logs / f"{self._starts:02d}-worker-{index}",
            self._prefixes[index],
        )
