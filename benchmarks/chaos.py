"""Runs that meet random faults on a bad network; writes a section of `docs/faults.md`.

    python -m benchmarks.chaos docs/faults.md --workers 2 --schedules 100

Each worker has a machine (a network namespace) of its own; the link delays every packet by 20 ms
and loses 0.5 % of them. A schedule draws one or two faults and their moments. Workers that end
with 128 or more, or by a signal, are started again at once, each alone, as an operator does. The
final weights must have the digest of those of a run without faults, bit for bit. Results are kept
in `--results`, so that an interrupted measurement continues. This needs Linux and root.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lossy_network import LossyNetwork, address_of, lossy_network, processes_on
from pipeline.demo.sample import write_sample
from preprocessing import storage
from tests.conftest import ingest
from tests.training.small_runs import tensors

STEPS = 60
CHECKPOINT_EVERY = 10
DELAY_MS, LOSS = 20.0, 0.005
PORT = 7000
HANG_SECONDS = 60  # without a step while the workers are connected
START_SECONDS = 240  # without a step while they start, on a busy machine
POLL_SECONDS = 0.05
FREEZE_SECONDS = 15.0
AWAY_SECONDS = 45.0  # longer than the lease on the workdir
HEADING = "## Random faults on a bad network"

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
    "truncate": "the newest checkpoint is truncated, then all workers are killed",
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
        self._records = records
        self._workdir = folder / "workdir"
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True)
        self._network = network
        self._prefixes = prefixes
        self._result = result
        self._starts = 0
        self._port = PORT
        self._away: list[subprocess.Popen[bytes]] = []
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
            for worker in self._away:
                worker.send_signal(signal.SIGCONT)
                assert worker.wait(HANG_SECONDS) > 0, "a worker that was given up went on"
        finally:
            for worker in [*self._workers, *self._away]:
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
            self._replace(fault.worker)
        if kind == "freeze":
            time.sleep(max(0.0, until - time.monotonic()))
            target.send_signal(signal.SIGCONT)
        self._moved = time.monotonic()

    def _replace(self, index: int) -> None:
        """Start another worker in the place of one that does not answer, on other ports."""
        away = self._workers[index]
        self._away.append(away)
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
        if newest:
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
        limit = HANG_SECONDS if self._step else START_SECONDS
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
        addresses = [
            f"{address_of(machine)}:{self._port}" for machine in range(self._result.workers)
        ]
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        with open(self._logs / f"{self._starts:02d}-worker-{index}", "wb") as log:
            return subprocess.Popen(
                [*self._prefixes[index], sys.executable, "-m", "pipeline", *self._arguments()],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "TF_CONFIG": json.dumps(config),
                    "TF_NUM_INTRAOP_THREADS": "1",
                },
            )

    def _arguments(self) -> list[str]:
        images = STEPS * 8 * self._result.workers
        return [
            "train",
            "--variant=mobilenet_v2_0.35_32",
            "--recipe=demo",
            f"--records={self._records}",
            f"--workdir={self._workdir}",
            "--set=training.batch_per_replica=8",
            f"--set=training.total_images={images}",
            "--set=loop.steps_per_loop=5",
            f"--set=loop.checkpoint_every_steps={CHECKPOINT_EVERY}",
            f"--set=loop.evaluate_every_steps={STEPS}",
            f"--set=loop.startup_timeout_seconds={START_SECONDS}",
            f"--set=loop.step_timeout_seconds={HANG_SECONDS}",
            "--set=loop.grace_seconds=20",
        ]


def schedule(workers: int, seed: int) -> Result:
    """Return the schedule of a seed; seed 0 has no fault."""
    draws = random.Random(seed)
    result = Result(workers, seed)
    for _ in range(draws.choice((1, 1, 2)) if seed else 0):
        while_starting = draws.random() < 0.2
        result.faults.append(
            Fault(
                kind=draws.choice(list(KINDS)),
                worker=draws.randrange(workers),
                while_starting=while_starting,
                delay=draws.randrange(12 if while_starting else 40),
            )
        )
    return result


def measure(records: Path, workers: int, seed: int) -> Result:
    """Run one schedule."""
    result = schedule(workers, seed)
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with lossy_network(workers, delay_ms=DELAY_MS, loss=LOSS) as (network, prefixes):
        try:
            cluster = Cluster(records, folder, network, prefixes, result)
            cluster.run()
            result.digest = cluster.digest()
        except (Hang, AssertionError) as error:
            result.problem = f"{error}; see {folder}"
    result.seconds = round(time.monotonic() - started, 1)
    if not result.problem:
        shutil.rmtree(folder)
    return result


def measure_all(records: Path, workers: int, schedules: int, kept: Path) -> Iterator[Result]:
    """Yield the result of every schedule, from `kept` where it is there already."""
    for seed in range(schedules + 1):
        file = kept / f"{workers}-{seed:03d}.json"
        if not file.exists():
            storage.write_json(str(file), dataclasses.asdict(measure(records, workers, seed)))
        values = json.loads(file.read_text())
        yield Result(**{**values, "faults": [Fault(**fault) for fault in values["faults"]]})


def section(results: Sequence[Result]) -> str:
    """Return the section of the page."""
    text = f"""{HEADING}

`python -m benchmarks.chaos docs/faults.md` writes this section. Each worker has a network namespace
of its own; the link delays every packet by {DELAY_MS:.0f} ms each way and loses {LOSS:.1%} of them.
A schedule draws one or two faults and their moments, also while the workers start. Noticed is when
the last of the other workers has ended; those that rode it out never ended.

| workers | schedules | same weights, bit for bit | hangs of {HANG_SECONDS} s | other failures | \
longest pause (s) |
|---|---|---|---|---|---|
"""
    by_workers: dict[int, list[Result]] = collections.defaultdict(list)
    for result in results:
        by_workers[result.workers].append(result)
    for workers, (quiet, *others) in sorted(by_workers.items()):
        same = sum(result.digest == quiet.digest for result in others)
        hangs = sum("no step" in result.problem for result in others)
        failures = sum(bool(result.problem) for result in others) - hangs
        pause = max(result.longest_pause_seconds for result in others)
        text += f"| {workers} | {len(others)} | {same} | {hangs} | {failures} | {pause:.0f} |\n"
    text += (
        "\n| fault | times | ridden out | noticed in (s): median, longest |\n|---|---|---|---|\n"
    )
    faults = [fault for result in results for fault in result.faults]
    for kind, description in KINDS.items():
        ours = [fault for fault in faults if fault.kind == kind and not fault.while_starting]
        noticed = [fault.notice_seconds for fault in ours if fault.notice_seconds is not None]
        times = f"{statistics.median(noticed):.1f}, {max(noticed):.1f}" if noticed else "never"
        text += f"| {description} | {len(ours)} | {len(ours) - len(noticed)} | {times} |\n"
    return text


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "chaos")
    arguments = parser.parse_args()
    arguments.results.mkdir(exist_ok=True)
    records = arguments.results / "records"
    if not records.exists():
        with tempfile.TemporaryDirectory() as archives:
            write_sample(archives)
            ingest(archives, records)
    results = []
    for workers in arguments.workers:
        for result in measure_all(records, workers, arguments.schedules, arguments.results):
            print(json.dumps(dataclasses.asdict(result)), flush=True)
            results.append(result)
    page = arguments.page.read_text()
    before = page.partition(f"\n{HEADING}")[0]
    arguments.page.write_text(f"{before.rstrip()}\n\n{section(results)}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
