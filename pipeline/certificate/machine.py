"""The machine: its devices, its cores and the memory that training has used so far."""

from __future__ import annotations

import resource
import shutil
import subprocess
from dataclasses import dataclass

import tensorflow as tf

from pipeline.export import latency
from preprocessing import limits

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What was certified.

    Attributes:
        devices: Names of TensorFlow's logical devices that train.
        hardware: What the devices are, by their makers' names.
        cores: The number of cores that this process may use.
        host_memory_bytes: The memory that this process may use.
    """

    devices: tuple[str, ...]
    hardware: tuple[str, ...]
    cores: int
    host_memory_bytes: int
    system: str
    tensorflow: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """The memory that training used, and what there is.

    Attributes:
        host_peak_bytes: Most resident memory of this process.
        host_total_bytes: What its container or machine allows.
        device_peak_bytes: Most memory of TensorFlow on any device; None where it does not tell.
        device_total_bytes: Memory of the smallest device; None where it does not tell.
    """

    host_peak_bytes: int
    host_total_bytes: int
    device_peak_bytes: int | None = None
    device_total_bytes: int | None = None


def gib(num_bytes: float) -> str:
    """Return a size in GiB."""
    return f"{num_bytes / 2**30:.1f} GiB"


def device_names() -> list[str]:
    """Return the logical devices that train: all GPUs, or else all CPUs."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]


def machine() -> Machine:
    """Return the description of this machine."""
    gpus = tf.config.list_physical_devices("GPU")
    host = latency.host()
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    hardware = [
        f"{detail.get('device_name', 'GPU')}, compute capability "
        f"{'.'.join(map(str, detail.get('compute_capability', ('unknown',))))}"
        for detail in details
    ]
    return Machine(
        devices=tuple(device_names()),
        hardware=tuple(hardware) or (host.cpu,),
        cores=limits.num_cores(),
        host_memory_bytes=limits.memory_bytes(),
        system=f"{host.system} {host.kernel}",
        tensorflow=tf.__version__,
    )


def forget_device_peaks() -> None:
    """Let `memory` count from now."""
    for name in device_names():
        if name.startswith("GPU"):
            tf.config.experimental.reset_memory_stats(name)


def memory() -> Memory:
    """Return the peaks of the memory so far."""
    peaks = [
        tf.config.experimental.get_memory_info(name)["peak"]
        for name in device_names()
        if name.startswith("GPU")
    ]
    return Memory(
        host_peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        host_total_bytes=limits.memory_bytes(),
        device_peak_bytes=max(peaks, default=None),
        device_total_bytes=_device_total_bytes() if peaks else None,
    )


def _device_total_bytes() -> int | None:
    """Return the memory of the smallest GPU as the driver tells; TensorFlow does not."""
    program = shutil.which("nvidia-smi")
    if not program:
        return None
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    return smallest_bytes(told.stdout) if told.returncode == 0 else None


def smallest_bytes(mebibytes: str) -> int | None:
    """Return the smallest of the numbers that `nvidia-smi` prints, one in a line."""
    numbers = [int(line) for line in mebibytes.split() if line.isdecimal()]
    return min(numbers) * MEBIBYTE if numbers else None
