"""The cost of an export: size, memory, latency and time per operator, here and on a phone."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.benchmark import op_profile
from pipeline.benchmark.adb import Phone, PhoneTiming
from pipeline.benchmark.op_profile import OperatorSummary, OperatorTime
from pipeline.export import directory, latency
from pipeline.export.conversion import litert
from pipeline.export.formats import registry
from pipeline.export.metrics import FormatLatency, Host
from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.progress import progress_bar
from preprocessing.storage import contracts
from training.models.variants import Variant

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatCost:
    """The cost of one TF-Lite file.

    Attributes:
        arena_bytes: Peak memory for activations.
        ops: Time by type of operator; None without a profile.
        profile: Time of every operator; None without a profile.
        phone: Timings on the phone by number of threads; None without a phone.
    """

    bytes: int
    arena_bytes: int
    latency: FormatLatency
    ops: dict[str, OperatorSummary] | None = None
    profile: list[OperatorTime] | None = None
    phone: dict[str, PhoneTiming] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, in which the phone's main figures are those of one thread."""
        plain = contracts.to_json(self)
        if self.phone:
            plain["phone"] = {**plain["phone"]["1"], "threads": plain["phone"]}
        return plain


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkResult:
    """The result of `mobilenet benchmark`.

    Attributes:
        export: The export directory.
        phone: Android properties of the phone; None without a phone.
    """

    export: str
    variant: Variant
    macs: int
    parameters: int
    host: Host
    phone: dict[str, str] | None
    formats: dict[str, FormatCost]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return contracts.to_json(self)


def benchmark(folder: str, *, profile: bool = False, phone: Phone | None = None) -> BenchmarkResult:
    """Measure every TF-Lite file of an export again; the export itself stays as it is.

    Args:
        folder: The export directory.
        profile: Whether every operator is timed on its own.
        phone: A phone to measure on as well; None measures here only.

    Raises:
        DataError: A file is not what was exported.
    """
    metrics = directory.read_metrics(folder)
    directory.require_intact(folder, metrics)
    files = {
        item.name: os.path.join(folder, metrics.files_by_format[item.name])
        for item in registry.tflite_formats()
        if item.name in metrics.files_by_format
    }
    if not files:
        raise UsageError(f"{folder} has no TF-Lite file; export the run with one, or again")
    properties = phone.prepare() if phone else None
    progress = progress_bar(files.items(), desc="benchmark", unit=" formats")
    result = BenchmarkResult(
        export=folder,
        variant=metrics.variant,
        macs=metrics.macs,
        parameters=metrics.parameters,
        host=latency.host(),
        phone=properties,
        formats={name: _cost(path, profile, phone) for name, path in progress},
    )
    logger.info("%s", table(result))
    return result


def _cost(path: str, profile: bool, phone: Phone | None) -> FormatCost:
    flatbuffer = storage.read_bytes(path)
    measured = latency.measure_threads(flatbuffer)
    profiled = op_profile.profile(flatbuffer) if profile else None
    return FormatCost(
        bytes=len(flatbuffer),
        arena_bytes=litert.arena_bytes(flatbuffer),
        latency=measured,
        ops=op_profile.by_type(profiled) if profiled else None,
        profile=profiled,
        phone={str(count): phone.measure(path, count) for count in latency.THREADS}
        if phone
        else None,
    )


def table(result: BenchmarkResult) -> str:
    """Return the figures as a table for people."""
    lines = [
        f"{result.variant.name} on {result.host.cpu}, {result.host.cores} cores: median / p95 ms",
        f"{'format':20} {'MB':>7} {'arena MB':>9}"
        + "".join(f"{f'{count} threads':>19}" for count in latency.THREADS),
    ]
    for name, cost in result.formats.items():
        lines.append(_row(name, cost, cost.latency.threads or {}))
        if cost.phone:
            lines.append(_row("phone", cost, cost.phone))
        for operator, summary in (cost.ops or {}).items():
            lines.append(
                f"  {operator:24} x{summary.count:3} {summary.ms:9.3f} ms {summary.share:7.1%}"
            )
    return "\n".join(lines)


def _row(name: str, cost: FormatCost, timings: Mapping[str, Any]) -> str:
    columns = "".join(
        f"{timing.median_ms:10.2f} / {timing.p95_ms:6.2f}" for timing in timings.values()
    )
    return f"{name:20} {cost.bytes / 1e6:7.2f} {cost.arena_bytes / 1e6:9.2f}{columns}"
