"""The latency of a flatbuffer on this host, and a description of this host."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline.export.conversion.litert import LiteRTModel
from pipeline.export.metrics import FormatLatency, Host, Timing

THREADS = (1, 2, 4)
WARM_UP_RUNS = 20
MAX_RUNS = 100
MIN_RUNS = 20
BUDGET_SECONDS = 2.0  # where MAX_RUNS would take longer, fewer runs, but at least MIN_RUNS


def measure(flatbuffer: bytes, image: np.ndarray | None = None, num_threads: int = 1) -> Timing:
    """Time single inferences with LiteRT.

    Args:
        flatbuffer: The model.
        image: `float32 [S, S, 3]` in [-1, 1]; None takes noise.
        num_threads: The number of LiteRT threads.
    """
    model = LiteRTModel(flatbuffer, num_threads)
    if image is None:
        shape = model.input_shape[1:]
        image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    model.set_image(image)
    milliseconds = timed_ms(model.invoke, warm_up_runs=WARM_UP_RUNS, max_runs=MAX_RUNS)
    return Timing(
        median_ms=round(float(np.median(milliseconds)), 4),
        p95_ms=round(float(np.percentile(milliseconds, 95)), 4),
        runs=len(milliseconds),
    )


def measure_threads(flatbuffer: bytes) -> FormatLatency:
    """Time single inferences with 1, 2 and 4 threads; the main figures are those of one."""
    by_threads = {count: measure(flatbuffer, None, count) for count in THREADS}
    return threaded(by_threads)


def threaded(by_threads: Mapping[int, Timing]) -> FormatLatency:
    """Return timings by number of threads as one; the main figures are those of one thread."""
    one = by_threads[1]
    return FormatLatency(
        median_ms=one.median_ms,
        p95_ms=one.p95_ms,
        runs=one.runs,
        threads={str(count): timing for count, timing in by_threads.items()},
    )


def timed_ms(run: Callable[[], Any], *, warm_up_runs: int, max_runs: int) -> np.ndarray:
    """Return the duration of each call of `run` after warming up: `float64 [runs]`, ms."""
    started = time.perf_counter()
    for _ in range(warm_up_runs):
        run()
    per_run = (time.perf_counter() - started) / warm_up_runs
    runs = min(max_runs, max(MIN_RUNS, int(BUDGET_SECONDS / per_run)))
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return np.asarray(seconds) * 1e3


def host() -> Host:
    """Return a description of this machine."""
    return Host(
        cpu=_cpu_model(),
        cores=os.cpu_count(),
        machine=platform.machine(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=platform.system(),
        kernel=platform.release(),
        litert=importlib.metadata.version("ai-edge-litert"),
    )


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
