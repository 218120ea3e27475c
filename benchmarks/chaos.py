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
import dataclasses
import functools
import json
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.disturbed_workers import HANG_SECONDS, KINDS, Cluster, Fault, Hang, Result
from benchmarks.lossy_network import lossy_network
from pipeline.demo.sample import write_sample
from preprocessing import storage
from tests.conftest import ingest

DELAY_MS, LOSS = 20.0, 0.005
HEADING = "## Random faults on a bad network"


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


def measure_all(
    records: Path, workers: int, schedules: int, kept: Path, at_once: int
) -> Iterator[Result]:
    """Yield the result of every schedule, from `kept` where it is there already."""
    result = functools.partial(kept_result, kept, records, workers)
    with multiprocessing.get_context("spawn").Pool(at_once) as pool:
        yield from pool.imap(result, range(schedules + 1))


def kept_result(kept: Path, records: Path, workers: int, seed: int) -> Result:
    """Return the result of a schedule, which is measured if it is not in `kept`."""
    file = kept / f"{workers}-{seed:03d}.json"
    if not file.exists():
        storage.write_json(str(file), dataclasses.asdict(measure(records, workers, seed)))
    values = json.loads(file.read_text())
    return Result(**{**values, "faults": [Fault(**fault) for fault in values["faults"]]})


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
    parser.add_argument("--at-once", type=int, default=1, help="schedules that run at a time [1]")
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
        for result in measure_all(
            records, workers, arguments.schedules, arguments.results, arguments.at_once
        ):
            print(json.dumps(dataclasses.asdict(result)), flush=True)
            results.append(result)
    page = arguments.page.read_text()
    before = page.partition(f"\n{HEADING}")[0]
    arguments.page.write_text(f"{before.rstrip()}\n\n{section(results)}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
