"""Latency of a flatbuffer on this host, and what this host is."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import numpy as np

from pipeline.tflite import LiteRTModel

WARM_UP_RUNS = 20
RUNS = 100


def measure(flatbuffer: bytes, image: np.ndarray, num_threads: int = 1) -> dict[str, float]:
    """Time single inferences with LiteRT.

    Args:
        flatbuffer: The model.
        image: `float32 [S, S, 3]` in [-1, 1].
        num_threads: LiteRT threads.

    Returns:
        `median_ms` and `p95_ms` over 100 runs after 20 to warm up.
    """
    model = LiteRTModel(flatbuffer, num_threads)
    model.set_image(image)
    seconds = []
    for _ in range(WARM_UP_RUNS + RUNS):
        started = time.perf_counter()
        model.invoke()
        seconds.append(time.perf_counter() - started)
    milliseconds = np.asarray(seconds[WARM_UP_RUNS:]) * 1e3
    return {
        "median_ms": round(float(np.median(milliseconds)), 4),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 4),
    }


def host() -> dict[str, Any]:
    """What a latency was measured on."""
    return {"cpu": _cpu_model(), "cores": os.cpu_count(), "system": platform.system()}


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
