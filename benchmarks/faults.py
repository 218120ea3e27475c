"""The cost of faults: time until noticed, exit code, lost steps; writes `docs/faults.md`.

    python -m benchmarks.faults docs/faults.md

Two workers train a tiny network on this machine, and every line is measured in this one run. The
tests hold the same runs to their bounds (`tests/training/loop/test_soak.py`, `test_failures.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos import HEADING
from pipeline.demo.sample import write_sample
from pipeline.local.processes import free_ports
from preprocessing import storage
from tests.conftest import Outcome, ingest, mobilenet
from tests.training.faults import CHECKPOINT_EVERY, arguments, break_records
from tests.training.supervisor import Fault, Supervisor

SIGNALS = (
    (signal.SIGKILL, 1, "a worker is killed (SIGKILL, out of memory)"),
    (signal.SIGKILL, 0, "the chief is killed"),
    (signal.SIGSTOP, 1, "a worker freezes or loses its network"),
    (signal.SIGSTOP, 0, "the chief freezes"),
    (signal.SIGTERM, 1, "a worker is asked to end (SIGTERM, spot notice)"),
    (signal.SIGTERM, 0, "the chief is asked to end"),
)
HEADER = """\
# Faults and their cost

`python -m benchmarks.faults docs/faults.md` writes this page. It runs two workers on one machine,
which save a checkpoint every {every} steps. The time runs from the fault until the last worker that
can end has ended. A supervisor then starts the workers again, because exit code 143 asks for that,
and the run continues exactly. Exit codes below 128 are permanent and end a job.

| fault | noticed in (s) | exit codes (chief, other) | steps lost |
|---|---|---|---|
"""


def main(target: str) -> None:
    """Measure everything and write the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_sample(str(folder / "archives"))
        ingest(folder / "archives", folder / "records")
        rows = [*_signals(folder), *_mistakes(folder)]
    text = HEADER.format(every=CHECKPOINT_EVERY) + "".join(
        f"| {' | '.join(row)} |\n" for row in rows
    )
    text += NOTES
    page = Path(target)
    if page.exists():
        text += "".join(page.read_text().partition(f"\n{HEADING}")[1:])  # measured by itself
    storage.write_bytes(target, text.encode())
    print(text)


def _signals(folder: Path) -> list[tuple[str, ...]]:
    supervisor = Supervisor(
        arguments(folder / "records"), folder / "signals" / "workdir", folder / "signals" / "logs"
    )
    faults = supervisor.run(
        [(signal_number, worker, 25) for signal_number, worker, _ in SIGNALS], 1200
    )
    return [
        (text, f"{max(fault.seconds.values()):.1f}", _codes(fault), str(_lost(fault)))
        for (_, _, text), fault in zip(SIGNALS, faults, strict=True)
    ]


def _codes(fault: Fault) -> str:
    def code(worker: int) -> str:
        exit_code = fault.exit_codes.get(worker)
        if exit_code is None:
            return "frozen"
        return "killed" if exit_code == -signal.SIGKILL else str(exit_code)

    return f"{code(0)}, {code(1)}"


def _lost(fault: Fault) -> int:
    """Return the number of steps that were reported before the fault and had to be repeated."""
    return max(0, fault.step - fault.checkpoint)


def _mistakes(folder: Path) -> list[tuple[str, ...]]:
    def broken() -> str:
        records = shutil.copytree(folder / "records", folder / "corrupt")
        break_records(Path(records), 8)
        return str(records)

    def missing() -> str:
        records = Path(shutil.copytree(folder / "records", folder / "missing"))
        (records / "train-00000-of-00008").unlink()
        return str(records)

    def train(records: str, *more: str, tf_config: str | None = None) -> Outcome:
        workdir = tempfile.mkdtemp(dir=folder)
        flags = (*arguments(Path(records)), f"--workdir={workdir}/w", *more)
        return mobilenet(*flags) if tf_config is None else mobilenet(*flags, TF_CONFIG=tf_config)

    records = str(folder / "records")
    absent = {
        "cluster": {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]},
        "task": {"type": "worker", "index": 0},
    }
    blow_up = "--set=optimizer.learning_rate_per_replica=1e30"
    cases: list[tuple[str, Callable[[], Outcome]]] = [
        ("a record is corrupt", lambda: train(broken())),
        ("a shard is missing", lambda: train(missing())),
        ("the loss is not finite", lambda: train(records, blow_up)),
        (
            "the other worker never comes, 5 s allowed",
            lambda: train(
                records, "--set=loop.startup_timeout_seconds=5", tf_config=json.dumps(absent)
            ),
        ),
    ]
    rows: list[tuple[str, ...]] = []
    for text, case in cases:
        started = time.monotonic()
        outcome = case()
        seconds = time.monotonic() - started
        line = outcome.err.strip().splitlines()[-1].replace(str(folder), "")
        rows.append(
            (
                f"{text}: `` {line[:200]} ``",
                f"{seconds:.1f} from its start",
                str(outcome.code),
                "none",
            )
        )
    return rows


NOTES = """
The tests cover further faults. A full disk ends in exit code 6, with the checkpoint and its step in
the message. A vanished folder and a second trainer on the same workdir end in 2, and ten attempts
in a row without a new checkpoint end in 1; an attempt counts once all workers have met, and one
that is refused or stopped does not count. A step or a start that takes longer than
`loop.step_timeout_seconds` or `loop.startup_timeout_seconds` ends in 143 with all stacks in the log
(142 if TensorFlow holds the interpreter, as it does while it starts). A request to stop that cannot
be answered within `loop.grace_seconds`, because the other worker is gone, ends in 143. If the
newest checkpoint is corrupt, the run falls back to the one before it, which costs the steps between
them.

A request to stop comes at any step. The checkpoint of that step then holds the statistics of batch
normalisation of every replica besides their mean, so that the run which continues has the same
tensors as one that was never stopped, bit for bit (`tests/training/loop/test_stops.py`).

A hiccup is no fault. TCP sends lost packets again, and the others give a worker up only after 30
seconds of silence (`training/workers/heartbeats.py`). A heartbeat has half of that to arrive, so a
link that is down for ten seconds is borne; one that is down for longer than 15 ends all workers,
because the collectives of a step cannot be begun again with fewer of them. A process that ends is
noticed at once, because the kernel closes its connections.

A chief that was frozen, or cut off from the others, for longer than its lease on the workdir (30
seconds) finds another one there. It looks before it writes a checkpoint, and writes nothing.
"""

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(sys.argv[1])
