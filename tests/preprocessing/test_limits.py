"""A process counts its container's cores and memory, in both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from preprocessing import limits

CORES = len(os.sched_getaffinity(0))
MACHINE = limits.memory_bytes(Path("/nowhere"))


def tree(root: Path, group: str, files: dict[str, str]) -> Path:
    """Write `proc/self/cgroup` and files below `sys/fs/cgroup`, as the kernel shows them."""
    files = {"proc/self/cgroup": group, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("100001 100000", 2),
        ("1 1000000", 1),
        ("max 100000", 64),
        ("6400000 100000", 64),
    ],
)
def test_a_quota_is_rounded_up_to_whole_cores(tmp_path: Path, quota: str, cores: int) -> None:
    root = tree(tmp_path, "0::/", {"cpu.max": quota, "memory.max": "max"})
    assert limits.num_cores(root) == min(cores, CORES)
    assert limits.memory_bytes(root) == MACHINE


def test_the_tightest_group_around_a_process_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "0::/kubepods/pod1/container",
        {
            "kubepods/cpu.max": "max 100000",
            "kubepods/memory.max": "4000000",
            "kubepods/pod1/cpu.max": "30000 100000",
            "kubepods/pod1/memory.max": "2000000",
            "kubepods/pod1/container/cpu.max": "200000 100000",
            "kubepods/pod1/container/memory.max": "3000000",
            "kubepods/pod2/memory.max": "1",
        },
    )
    assert limits.num_cores(root) == 1
    assert limits.memory_bytes(root) == 2_000_000


def test_a_path_of_the_node_ends_at_the_containers_own_root(tmp_path: Path) -> None:
    """Version 1 without a namespace of its own: the container sees only its group's files."""
    root = tree(
        tmp_path,
        "4:memory:/kubepods/pod1/container\n1:cpu,cpuacct:/kubepods/pod1/container\n0::/",
        {
            "cpu/cpu.cfs_quota_us": "70000",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "8589934592",
        },
    )
    assert limits.num_cores(root) == 1
    assert limits.memory_bytes(root) == min(8 * 2**30, MACHINE)


def test_version_1_without_limits_is_the_machine(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "4:memory:/a\n1:cpu:/a",
        {
            "cpu/a/cpu.cfs_quota_us": "-1",
            "cpu/a/cpu.cfs_period_us": "100000",
            "memory/a/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert (limits.num_cores(root), limits.memory_bytes(root)) == (CORES, MACHINE)


def test_a_machine_without_control_groups_is_taken_as_it_is(tmp_path: Path) -> None:
    assert (limits.num_cores(tmp_path), limits.memory_bytes(tmp_path)) == (CORES, MACHINE)
