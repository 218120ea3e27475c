"""`mobilenet benchmark`: what an export costs, on this host and optionally on a phone."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm import tqdm

from pipeline.benchmark import op_profile
from pipeline.benchmark.adb import Phone
from pipeline.export import directory, latency
from pipeline.export.formats import litert
from preprocessing import storage
from preprocessing.errors import UsageError

TFLITE = "tflite_"


def benchmark(folder: str, *, profile: bool = False, phone: Phone | None = None) -> dict[str, Any]:
    """Measure every TF-Lite file of an export anew; the export itself stays as it is.

    Args:
        folder: The export directory.
        profile: Also time every operator on its own.
        phone: Also measure on this phone.

    Returns:
        Sizes, peak arena memory, latency with 1, 2 and 4 threads, and on what.

    Raises:
        DataError: A file is not what was exported.
    """
    metrics = directory.read_metrics(folder)
    directory.require_intact(folder, metrics)
    names = {
        name: file
        for name, file in metrics.get("files_by_format", {}).items()
        if name.startswith(TFLITE)
    }
    if not names:
        raise UsageError(f"{folder} was exported by an older version; export it again")
    device = phone.prepare() if phone else None
    formats = {}
    for name, file in tqdm(names.items(), desc="benchmark", unit=" formats"):
        path = os.path.join(folder, file)
        formats[name] = _measured(path, profile) | (_on(phone, path) if phone else {})
    result = {
        "export": folder,
        "variant": metrics["variant"],
        "macs": metrics["macs"],
        "parameters": metrics["parameters"],
        "host": latency.host(),
        **({"phone": device} if device else {}),
        "formats": formats,
    }
    print(table(result), file=sys.stderr)
    return result


def _measured(path: str, profile: bool) -> dict[str, Any]:
    flatbuffer = storage.read_bytes(path)
    found = {
        "bytes": len(flatbuffer),
        "arena_bytes": litert.arena_bytes(flatbuffer),
        "latency": latency.measure_threads(flatbuffer),
    }
    if profile:
        profiled = op_profile.profile(flatbuffer)
        found |= {"ops": op_profile.by_type(profiled), "profile": profiled}
    return found


def _on(phone: Phone, path: str) -> dict[str, Any]:
    by_threads = {str(each): phone.measure(path, each) for each in latency.THREADS}
    return {"phone": {**by_threads["1"], "threads": by_threads}}


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{result['variant']} on {result['host']['cpu']}, {result['host']['cores']} cores: "
        "median / p95 ms",
        f"{'format':20} {'MB':>7} {'arena MB':>9}"
        + "".join(f"{f'{each} threads':>19}" for each in latency.THREADS),
    ]
    for name, each in result["formats"].items():
        places = [("", each["latency"])] + ([("phone", each["phone"])] if "phone" in each else [])
        for place, timing in places:
            columns = "".join(
                f"{by['median_ms']:10.2f} / {by['p95_ms']:6.2f}"
                for by in timing["threads"].values()
            )
            size, arena = each["bytes"] / 1e6, each["arena_bytes"] / 1e6
            lines.append(f"{place or name:20} {size:7.2f} {arena:9.2f}{columns}")
        for op, figures in each.get("ops", {}).items():
            lines.append(
                f"  {op:24} x{figures['count']:3} {figures['ms']:9.3f} ms {figures['share']:7.1%}"
            )
    return "\n".join(lines)
