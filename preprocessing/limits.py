"""The cores and the memory that this process may use: those of its container, not of its node."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def num_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the smaller of its CPU affinity and the quotas of its control groups, rounded up:
    a container with a limit of 0.5 CPU has one core.

    Args:
        root: The folder that has `proc` and `sys`.
    """
    quotas = [quota for quota in (*_quotas_v2(root), *_quotas_v1(root)) if quota > 0]
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas)]))


def memory_bytes(root: Path = ROOT) -> int:
    """Return the memory that this process and its children may use together.

    It is the smaller of the machine's memory and the limits of its control groups.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = (*_read(root, "", "memory.max"), *_read(root, "memory", "memory.limit_in_bytes"))
    return min([machine, *(int(text) for text in texts if text.isdigit())])


def _quotas_v2(root: Path) -> Iterator[float]:
    for text in _read(root, "", "cpu.max"):
        quota, period = text.split()
        if quota != "max":
            yield int(quota) / int(period)


def _quotas_v1(root: Path) -> Iterator[float]:
    quotas = _read(root, "cpu", "cpu.cfs_quota_us")
    periods = _read(root, "cpu", "cpu.cfs_period_us")
    for quota, period in zip(quotas, periods, strict=False):
        yield int(quota) / int(period)  # -1 is no quota


def _read(root: Path, controller: str, name: str) -> Iterator[str]:
    """Yield the content of a file of this process's control group and of every group around it.

    Args:
        root: The folder that has `proc` and `sys`.
        controller: A controller of version 1; the empty name is the one hierarchy of version 2.
        name: The file.
    """
    mount = root / "sys/fs/cgroup" / controller
    group = _group(root, controller)
    # In a container the path may be that of the node, whose folders the container does not see.
    for folder in (group, *group.parents):
        try:
            yield (mount / folder.relative_to("/") / name).read_text().strip()
        except OSError:
            continue


def _group(root: Path, controller: str) -> Path:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return Path("/")
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(path)
    return Path("/")
