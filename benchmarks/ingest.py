"""Ingest compared with a bare loop, stock Beam, the original builder and a bare JPEG decoder.

    python -m benchmarks.ingest                 # throughput, ratios, where the time goes
    python -m benchmarks.ingest --memory        # peak memory and time at 2k, 20k, 200k images

Every contestant reads the same archives from the page cache and writes to the same disk.
They run one after the other, round after round. The best round of each counts, because other
work on the machine only ever adds time. On a machine that does other work at the same time,
the ratios of processor time say more than those of wall time, so both are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measured import run_measured
from benchmarks.photographs import write_archives

CONTESTANTS = {
    "ours": "mobilenet prepare, without its start-up: it checks header, trailer and dimensions",
    "ours_decode": "mobilenet prepare --decode-check, without its start-up: it decodes every image",
    "bare": "one process: tar to TFRecord with CRCs, without checks and without fsync",
    "bare_sha256": "the same, with the SHA-256 that our manifest carries, and with fsync",
    "decode": "libjpeg-turbo decodes the same images in memory to RGB, with one process per core",
    "decode_gray": "the same to gray: the cheapest call that finds all damage, as in ours",
    "original": "the original builder: two threads; TensorFlow decodes every image for its size",
    "naive_beam": "stock Beam: Map(read and serialise) | WriteToTFRecord",
}
IMAGENET_IMAGES, IMAGENET_GB = 1_331_167, 155
FEWER_IMAGES = {"original": 2000, "naive_beam": 2000}  # these are slow, and this many suffice


@dataclass(frozen=True)
class Cost:
    """Cost of a command: wall time, and the processor time of all processes that it started."""

    wall_seconds: float
    core_seconds: float
    output: str = ""


def become_subreaper() -> None:
    """Also count the processor time of grandchildren whose parent has ended (prctl(2))."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        raise SystemExit("this benchmark needs Linux")


def run(command: Sequence[str]) -> Cost:
    """Run a command that must succeed, and wait for all processes that it left behind."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    wall_seconds = time.perf_counter() - started
    if completed.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{completed.stderr}")
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    core_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_seconds, core_seconds, completed.stdout)


def prepare_command(source: Path, records: Path, *flags: str) -> list[str]:
    """Delete `records`, and return the `mobilenet prepare` command that writes it."""
    shutil.rmtree(records, ignore_errors=True)
    return [
        *(sys.executable, "-m", "pipeline", "prepare"),
        *("--source", str(source), "--records", str(records), *flags),
    ]


def one_round(name: str, source: Path, work: Path, num_images: int) -> Cost:
    """Measure one round of one contestant."""
    if name.startswith("ours"):
        flags = ["--decode-check"] if name == "ours_decode" else []
        return run(prepare_command(source, work / "records", *flags))
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "out").mkdir()
    cost = run(
        [
            *(sys.executable, "-m", "benchmarks.ingest_contestants", name),
            *(str(source), str(work / "out"), str(num_images)),
        ]
    )
    wall_seconds, core_seconds = json.loads(cost.output.splitlines()[-1])
    return Cost(wall_seconds, core_seconds)  # without the start of Python


def throughput(arguments: argparse.Namespace, work: Path) -> dict[str, object]:
    """Return rates, ratios and an estimate for the whole ImageNet."""
    source, small = work / "source", work / "small"
    write_archives(str(source), arguments.images, width=500, height=375, quality=88)
    write_archives(str(small), 10, width=500, height=375, quality=88)
    image_kb = (source / "ILSVRC2012_img_train.tar").stat().st_size / arguments.images / 1000
    # A prepare of so few images shows the time that Python, imports and Beam take to start.
    starts = [run(prepare_command(small, work / "records", "--workers=2")) for _ in range(3)]
    start = Cost(
        min(start.wall_seconds for start in starts), min(start.core_seconds for start in starts)
    )
    wall_us: dict[str, float] = {}  # per image, of the best round
    core_us: dict[str, float] = {}
    for number in range(arguments.rounds):
        for name in CONTESTANTS:
            num_images = min(arguments.images, FEWER_IMAGES.get(name, arguments.images))
            cost = one_round(name, source, work, num_images)
            for best, seconds in ((wall_us, cost.wall_seconds), (core_us, cost.core_seconds)):
                best[name] = min(best.get(name, math.inf), seconds / num_images * 1e6)
            print(
                f"round {number + 1}: {name} {num_images / cost.wall_seconds:.0f} images/s, "
                f"{cost.core_seconds / num_images * 1e6:.0f} core microseconds an image",
                file=sys.stderr,
            )
    for name in [name for name in CONTESTANTS if name.startswith("ours")]:
        wall_us[name] -= start.wall_seconds / arguments.images * 1e6
        core_us[name] -= start.core_seconds / arguments.images * 1e6
    if min(wall_us.values()) <= 0:
        raise SystemExit("the machine is too busy to tell start-up from work; give more --images")
    cores = len(os.sched_getaffinity(0))
    parts = run(
        [
            *(sys.executable, "-m", "benchmarks.ingest_contestants", "parts"),
            *(str(source), str(work / "out"), "2000"),
        ]
    )
    used_cores = {"bare": 1, "bare_sha256": 1, "original": 2}

    def ratios(of: str, to: str) -> dict[str, float]:
        """Return the ratio of wall time, and that of processor time with all usable cores free."""
        free = {name: core_us[name] / used_cores.get(name, cores) for name in (of, to)}
        return {
            "wall": round(wall_us[to] / wall_us[of], 2),
            "processor": round(free[to] / free[of], 2),
        }

    return {
        "images": arguments.images,
        "kilobytes_per_image": round(image_kb, 1),
        "cores": cores,
        "start_up_seconds": round(start.wall_seconds, 2),
        "images_per_second": {name: round(1e6 / us) for name, us in wall_us.items()},
        "core_microseconds_per_image": {name: round(us) for name, us in core_us.items()},
        "ratios": {
            "ours / bare (bar 1.4)": ratios("ours", "bare"),
            "ours / bare_sha256": ratios("ours", "bare_sha256"),
            "ours_decode / decode (bar 0.85)": ratios("ours_decode", "decode"),
            "ours_decode / decode_gray": ratios("ours_decode", "decode_gray"),
            "ours / original (bar 4)": ratios("ours", "original"),
            "ours / naive_beam (bar 4)": ratios("ours", "naive_beam"),
        },
        "core_microseconds_of_our_parts": json.loads(parts.output.splitlines()[-1]),
        "imagenet_on_16_cores": {
            "minutes": round(IMAGENET_IMAGES * core_us["ours"] / 16 / 60e6, 1),
            "minutes_decode_check": round(IMAGENET_IMAGES * core_us["ours_decode"] / 16 / 60e6, 1),
            "gigabytes_to_read_and_write": 2 * IMAGENET_GB,
        },
    }


def memory(work: Path) -> dict[str, object]:
    """Return the peak memory of any process and the wall time for 2k, 20k and 200k images."""
    results = {}
    for num_images in (2_000, 20_000, 200_000):
        source = work / f"source-{num_images}"
        write_archives(str(source), num_images, width=48, height=40, quality=85)
        command = prepare_command(source, work / "records", "--workers=2", "--train-shards=64")
        measured = run_measured(command)
        results[num_images] = {
            "seconds": round(measured.seconds, 1),
            "peak_megabytes_of_any_process": round(measured.largest_mib),
        }
        print(f"{num_images}: {results[num_images]}", file=sys.stderr)
        shutil.rmtree(source)
    return {"images": results}


def main() -> None:
    """Measure, and print one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    arguments.add_argument("--images", type=int, default=16_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--memory", action="store_true")
    arguments.add_argument("--folder", help="folder to work in [the temporary folder]")
    parsed = arguments.parse_args()
    become_subreaper()
    with tempfile.TemporaryDirectory(prefix="benchmark-ingest-", dir=parsed.folder) as folder:
        work = Path(folder)
        measure: Callable[[], dict[str, object]] = (
            (lambda: memory(work)) if parsed.memory else (lambda: throughput(parsed, work))
        )
        print(json.dumps(measure(), indent=2))


if __name__ == "__main__":
    main()
