"""Latency on a phone: TF-Lite's own `benchmark_model` binary, pushed and run over adb."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from preprocessing.errors import PermanentError, UsageError

REMOTE_FOLDER = "/data/local/tmp/mobilenet"
BINARY_URL = "https://ai.google.dev/edge/litert/models/measurement"
NUM_RUNS, WARM_UP_RUNS = 50, 10
TIMEOUT_SECONDS = 300.0
_PROPERTIES = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model", "ro.build.id")

_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
_COUNTS = re.compile(
    rf"\bcount=(\d+) .*?\bavg={_NUMBER}.*?(?: median={_NUMBER} p95={_NUMBER})?$", re.M
)
_AVERAGE = re.compile(rf"Inference timings in us: Init: {_NUMBER},.*Inference \(avg\): {_NUMBER}")
_MEMORY = re.compile(rf"footprint.* \(MB\): init={_NUMBER} overall={_NUMBER}")
_SUMMARY = "Summary by node type"
_NODE = re.compile(rf"^\s*([A-Z][\w ().,:-]*?)\s+(\d+)\s+{_NUMBER}\s+{_NUMBER}%", re.M)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhoneOperators:
    """All operators of one type."""

    count: int
    ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PhoneTiming:
    """The latency of a model on a phone.

    Attributes:
        median_ms: The median, or the mean where the binary is too old to print it.
        p95_ms: The 95th percentile, or the mean where the binary is too old to print it.
        ops: Time by type of operator.
    """

    median_ms: float
    p95_ms: float
    mean_ms: float
    init_ms: float
    runs: int
    memory_mb: float | None
    ops: dict[str, PhoneOperators]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with `memory_mb` even where it is unknown."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Phone:
    """A device that `adb devices` lists, and the binary to run on it.

    Attributes:
        binary: Local path of `benchmark_model` for the phone's processor.
        serial: The serial number that `adb devices` shows; None for the only phone.
    """

    binary: str
    serial: str | None = None

    def prepare(self) -> dict[str, str]:
        """Push the binary; return Android's properties of the phone.

        Raises:
            UsageError: There is no adb, no binary or no phone.
        """
        if not shutil.which("adb"):
            raise UsageError("adb is not installed; install Android's platform-tools")
        if not os.path.isfile(self.binary):
            raise UsageError(f"{self.binary} does not exist; get benchmark_model from {BINARY_URL}")
        self._adb("shell", f"mkdir -p {REMOTE_FOLDER}")
        self._adb("push", self.binary, f"{REMOTE_FOLDER}/benchmark_model")
        self._adb("shell", f"chmod 755 {REMOTE_FOLDER}/benchmark_model")
        return {key: self._adb("shell", f"getprop {key}").strip() for key in _PROPERTIES}

    def measure(self, path: str, num_threads: int) -> PhoneTiming:
        """Run one model with CPU kernels (XNNPACK).

        Args:
            path: A local `.tflite`.
            num_threads: The number of threads on the phone.
        """
        remote = f"{REMOTE_FOLDER}/{os.path.basename(path)}"
        self._adb("push", path, remote)
        try:
            printed = self._adb(
                "shell",
                f"{REMOTE_FOLDER}/benchmark_model --graph={remote} --num_threads={num_threads} "
                f"--num_runs={NUM_RUNS} --warmup_runs={WARM_UP_RUNS} --enable_op_profiling=true",
            )
        finally:
            self._adb("shell", f"rm -f {remote}")
        return parse(printed)

    def _adb(self, *arguments: str) -> str:
        command = ["adb", *(("-s", self.serial) if self.serial else ()), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PermanentError(
                f"{' '.join(command)} did not end in {TIMEOUT_SECONDS:.0f} s; is the phone awake?"
            ) from error
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise UsageError(f"{' '.join(command)}: {lines[-1]}; check `adb devices`")
        return done.stdout + done.stderr


def parse(printed: str) -> PhoneTiming:
    """Return the figures that `benchmark_model` prints; the last runs are the ones that count.

    Raises:
        PermanentError: The output has no figures.
    """
    printed = printed.replace("\r", "")
    average, counts = _AVERAGE.search(printed), _COUNTS.findall(printed.split(_SUMMARY)[0])
    if not average or not counts:
        last = (printed.strip().splitlines() or ["nothing"])[-1]
        raise PermanentError(f"benchmark_model gave no timings, it said: {last}")
    mean_us = float(average[2])
    runs, _, median_us, p95_us = counts[-1]
    memory = _MEMORY.search(printed)
    summary = printed.rpartition(_SUMMARY)[2] if _SUMMARY in printed else ""
    return PhoneTiming(
        median_ms=float(median_us or mean_us) / 1e3,
        p95_ms=float(p95_us or mean_us) / 1e3,
        mean_ms=mean_us / 1e3,
        init_ms=float(average[1]) / 1e3,
        runs=int(runs),
        memory_mb=float(memory[2]) if memory else None,
        ops={
            name.strip(): PhoneOperators(count=int(count), ms=float(ms))
            for name, count, ms, _ in _NODE.findall(summary)
        },
    )
