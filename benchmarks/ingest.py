"""Ingest beside a bare loop, stock Beam, the original builder and a bare JPEG decoder, in one run.

    python -m benchmarks.ingest                 # throughput, ratios, where the time goes
    python -m benchmarks.ingest --memory        # peak memory and time at 2k, 20k, 200k images

Every contestant reads the same archives from the page cache and writes to the same disk.
They run one after the other, round after round, and the best round of each counts: other
work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.photographs import write_archives

CONTESTANTS = {
    "ours": "mobilenet prepare: header, trailer and dimensions of every image checked",
    "ours_decode": "mobilenet prepare --decode-check: every image decoded",
    "bare": "one process: tar to TFRecord with CRCs, nothing checked, not synced",
    "bare_sha256": "the same, and the SHA-256 that our manifest carries, and synced",
    "decode": "libjpeg-turbo decoding the same images in memory, one process a core",
    "original": "the original builder: TensorFlow decodes every image for its size, two threads",
    "naive_beam": "stock Beam: Map(read and serialise) | WriteToTFRecord",
}
IMAGENET_IMAGES, IMAGENET_GB = 1_331_167, 155
NUM_IMAGES = {"original": 2000, "naive_beam": 2000}  # enough for those that are slow


def run(command: Sequence[str]) -> float:
    """Wall seconds of a command that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return time.perf_counter() - started


def prepare_command(source: Path, records: Path, *flags: str) -> list[str]:
    """`mobilenet prepare` into a fresh folder."""
    shutil.rmtree(records, ignore_errors=True)
    return [
        *(sys.executable, "-m", "pipeline", "prepare"),
        *("--source", str(source), "--records", str(records), *flags),
    ]


def images_per_second(name: str, source: Path, work: Path, num_images: int) -> float:
    """One round of one contestant."""
    if name.startswith("ours"):
        flags = ["--decode-check"] if name == "ours_decode" else []
        return num_images / run(prepare_command(source, work / "records", *flags))
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "out").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.ingest_contestants", name),
            *(str(source), str(work / "out"), str(min(num_images, NUM_IMAGES.get(name, 10**9)))),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1])  # its own time, without starting Python


def throughput(arguments: argparse.Namespace, work: Path) -> dict[str, object]:
    """Rates, ratios and a reckoning."""
    source, small = work / "source", work / "small"
    write_archives(str(source), arguments.images, width=500, height=375, quality=88)
    write_archives(str(small), 10, width=500, height=375, quality=88)
    image_kb = (source / "ILSVRC2012_img_train.tar").stat().st_size / arguments.images / 1000
    start_up = min(run(prepare_command(small, work / "records")) for _ in range(3))
    best = dict.fromkeys(CONTESTANTS, 0.0)
    for number in range(arguments.rounds):
        for name in CONTESTANTS:
            rate = images_per_second(name, source, work, arguments.images)
            best[name] = max(best[name], rate)
            print(f"round {number + 1}: {name} {rate:.0f} images/s", file=sys.stderr)

    def without_start(name: str) -> float:
        return arguments.images / (arguments.images / best[name] - start_up)

    steady, steady_decode = without_start("ours"), without_start("ours_decode")
    per_image_us = len(os.sched_getaffinity(0)) / steady * 1e6
    return {
        "images": arguments.images,
        "kilobytes_per_image": round(image_kb, 1),
        "cores": len(os.sched_getaffinity(0)),
        "start_up_seconds": round(start_up, 2),
        "images_per_second": {name: round(rate) for name, rate in best.items()},
        "without_start_up": {"ours": round(steady), "ours_decode": round(steady_decode)},
        "ratios": {
            "ours / bare (bar 1.4)": round(steady / best["bare"], 2),
            "ours / bare_sha256": round(steady / best["bare_sha256"], 2),
            "ours with start-up / bare": round(best["ours"] / best["bare"], 2),
            "ours_decode / decode (bar 0.85)": round(steady_decode / best["decode"], 2),
            "ours / original (bar 4)": round(steady / best["original"], 2),
            "ours / naive_beam (bar 4)": round(steady / best["naive_beam"], 2),
            "ours_decode / original": round(steady_decode / best["original"], 2),
        },
        "core_microseconds_per_image": round(per_image_us),
        "of_which": json.loads(
            subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks.ingest_contestants", "parts"),
                    *(str(source), str(work / "out"), "2000"),
                ],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        ),
        "imagenet_on_16_cores": {
            "minutes": round(IMAGENET_IMAGES * per_image_us / 16 / 60e6, 1),
            "minutes_decode_check": round(
                IMAGENET_IMAGES * len(os.sched_getaffinity(0)) / steady_decode / 16 / 60, 1
            ),
            "disk_gigabytes_per_second_it_takes": round(
                2 * IMAGENET_GB / (IMAGENET_IMAGES * per_image_us / 16 / 1e6), 1
            ),
        },
    }


def memory(work: Path) -> dict[str, object]:
    """Peak memory of any process and wall time for ten and a hundred times as many images."""
    results = {}
    for num_images in (2_000, 20_000, 200_000):
        source = work / f"source-{num_images}"
        write_archives(str(source), num_images, width=48, height=40, quality=85)
        command = prepare_command(source, work / "records", "--workers=2", "--train-shards=64")
        started = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            peak_mb = peak_megabytes_of_session(process)
        results[num_images] = {
            "seconds": round(time.perf_counter() - started, 1),
            "peak_megabytes_of_any_process": round(peak_mb),
        }
        print(f"{num_images}: {results[num_images]}", file=sys.stderr)
        shutil.rmtree(source)
    return {"images": results}


def peak_megabytes_of_session(leader: subprocess.Popen[bytes]) -> float:
    """The highest peak memory of any process in the session that `leader` leads, at its end."""
    peaks: dict[str, int] = {}
    assert leader.stderr
    drain = threading.Thread(target=leader.stderr.read, daemon=True)
    drain.start()
    while leader.poll() is None:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(path.name)) != leader.pid:
                    continue
                for line in (path / "status").read_text().splitlines():
                    if line.startswith("VmHWM"):
                        peaks[path.name] = int(line.split()[1])
            except (OSError, ValueError):
                continue  # it has just ended
        time.sleep(0.05)
    if leader.returncode:
        raise SystemExit("mobilenet prepare failed")
    return max(peaks.values()) / 1024


def main() -> None:
    """Print one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    arguments.add_argument("--images", type=int, default=16_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--memory", action="store_true")
    arguments.add_argument("--folder", help="where to work [the temporary folder]")
    parsed = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-ingest-", dir=parsed.folder) as folder:
        work = Path(folder)
        measure: Callable[[], dict[str, object]] = (
            (lambda: memory(work)) if parsed.memory else (lambda: throughput(parsed, work))
        )
        print(json.dumps(measure(), indent=2))


if __name__ == "__main__":
    main()
