"""Two workers and a supervisor that restarts them on this machine, as an operator restarts pods.

It acts like the Training Operator under restart policy ExitCode: a worker that ends with 128 or
more, or by a signal, is started again at once, alone; a code from 1 to 127 fails the job.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.local.processes import free_ports
from tests.cluster.control_plane import die_with_parent
from training.workdir.workdir import Workdir

POLL_SECONDS = 0.05


@dataclass
class Fault:
    """A signal to a worker and its consequences."""

    signal: signal.Signals
    worker: int
    step: int  # last reported before it
    exit_codes: dict[int, int] = field(default_factory=dict)  # by worker, the first after it
    seconds: dict[int, float] = field(default_factory=dict)  # from the signal to that exit
    checkpoint: int = 0  # newest complete one once all had ended
    resumed_at: int = -1

    @property
    def survivor(self) -> int:
        """The other worker."""
        return 1 - self.worker


def start_worker(
    arguments: Sequence[str],
    addresses: Sequence[str],
    index: int,
    log: Path,
    prefix: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start `mobilenet ARGUMENTS` as one of some workers, on one core; it ends with this process.

    Args:
        arguments: The subcommand and its flags.
        addresses: All workers.
        index: Which of them it is.
        log: File for its output.
        prefix: What precedes the command, for example to enter another network.
    """
    config = {
        "cluster": {"worker": list(addresses)},
        "task": {"type": "worker", "index": index},
    }
    with log.open("wb") as output:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "pipeline", *arguments],
            stdout=output,
            stderr=output,
            env={**os.environ, "TF_CONFIG": json.dumps(config), "TF_NUM_INTRAOP_THREADS": "1"},
            preexec_fn=die_with_parent,
        )


class Supervisor:
    """Runs `mobilenet train ARGUMENTS` as two workers until both are done."""

    def __init__(self, arguments: Sequence[str], workdir: Path, logs: Path) -> None:
        self.workdir = workdir
        self._arguments = [*arguments, f"--workdir={workdir}"]
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        self._workers: list[subprocess.Popen[bytes]] = []
        self.starts = 0

    def run(self, plan: Sequence[tuple[signal.Signals, int, int]], seconds: float) -> list[Fault]:
        """Send each `(signal, worker, steps)` that many steps after the last resume, and wait.

        Args:
            plan: Signals in order.
            seconds: Time limit of everything, so that a hang fails.

        Returns:
            The consequences of each.
        """
        deadline = time.monotonic() + seconds
        faults: list[Fault] = []
        self._workers = [self._start(index) for index in range(2)]
        try:
            for number, worker, steps in plan:
                resumed_at = self._await_progress(0, deadline)
                if faults:
                    faults[-1].resumed_at = resumed_at
                reported = self._await_progress(resumed_at + steps, deadline)
                fault = Fault(number, worker, reported)
                faults.append(fault)
                self._inflict(fault, deadline)
            if faults:
                faults[-1].resumed_at = self._await_progress(0, deadline)
            while any(worker.poll() is None for worker in self._workers):
                self._require_time(deadline)
                self._restart_ended()
                time.sleep(POLL_SECONDS)
            assert [worker.returncode for worker in self._workers] == [0, 0], self.log()
            return faults
        finally:
            for process in self._workers:
                process.kill()
                process.wait()

    def log(self) -> str:
        """Return the output of the workers, in the order of their starts."""
        return "\n".join(
            f"== {path.name}\n{path.read_text()}"
            for path in sorted(self._logs.iterdir(), key=lambda path: path.stat().st_mtime)
        )[-8000:]

    def _inflict(self, fault: Fault, deadline: float) -> None:
        """Send the signal, and wait until every worker that can end has ended."""
        at = time.monotonic()
        self._workers[fault.worker].send_signal(fault.signal)
        frozen = fault.signal == signal.SIGSTOP
        ending = {fault.survivor} if frozen else {0, 1}
        while ending - fault.exit_codes.keys():
            self._require_time(deadline)
            for index in ending - fault.exit_codes.keys():
                code = self._workers[index].poll()
                if code is not None:
                    fault.exit_codes[index] = code
                    fault.seconds[index] = time.monotonic() - at
                    self._restart(index, code)  # alone: the other's code is still to be noted
            time.sleep(POLL_SECONDS)
        fault.checkpoint = Workdir(str(self.workdir)).newest_checkpoint_step()
        if frozen:  # the node is given up
            self._workers[fault.worker].kill()
            self._workers[fault.worker].wait()
            self._restart_ended()

    def _restart_ended(self) -> None:
        for index, worker in enumerate(self._workers):
            code = worker.poll()
            if code is not None and code != 0:
                self._restart(index, code)

    def _restart(self, index: int, code: int) -> None:
        assert code < 0 or code >= 128, f"permanent failure {code}\n{self.log()}"
        self._workers[index] = self._start(index)

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        self.starts += 1
        (self.workdir / "progress.json").unlink(missing_ok=True) if index == 0 else None
        log = self._logs / f"{self.starts:02d}-worker-{index}"
        return start_worker(self._arguments, self._addresses, index, log)

    def _await_progress(self, step: int, deadline: float) -> int:
        """Return the first reported step that is at least `step` and positive."""
        while True:
            self._require_time(deadline)
            self._restart_ended()
            path = self.workdir / "progress.json"
            reported = json.loads(path.read_text())["step"] if path.exists() else 0
            if reported and reported >= step:
                return int(reported)
            assert self._workers[0].poll() != 0, f"ended before step {step}\n{self.log()}"
            time.sleep(POLL_SECONDS)

    def _require_time(self, deadline: float) -> None:
        assert time.monotonic() < deadline, f"something hangs\n{self.log()}"
