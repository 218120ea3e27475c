"""In a bucket one process writes at a time, whatever the others do and however it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from preprocessing import storage
from preprocessing.storage import contracts, leases
from preprocessing.storage.leases import Lease, LeasedError, Process, lease
from preprocessing.storage.swap import ABSENT, read_versioned, swap_bytes
from tests.emulator import Emulator

SECONDS = 1.0


def test_of_many_that_write_at_once_one_succeeds(emulator: Emulator) -> None:
    path = f"{emulator.bucket}/file"
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda i: swap_bytes(path, b"%d" % i, ABSENT), range(8)))
    assert created.count(True) == 1
    content, version = read_versioned(path)
    assert content == b"%d" % created.index(True)
    with ThreadPoolExecutor(8) as pool:
        replaced = list(pool.map(lambda i: swap_bytes(path, b"new %d" % i, version), range(8)))
    assert replaced.count(True) == 1
    assert storage.read_bytes(path) == b"new %d" % replaced.index(True)


def test_a_swap_whose_answer_is_lost_still_counts_once(flaky_emulator: Emulator) -> None:
    path, version = f"{flaky_emulator.bucket}/file", ABSENT
    for number in range(60):
        assert swap_bytes(path, b"%d" % number, version)
        content, version = read_versioned(path)
        assert content == b"%d" % number
    assert flaky_emulator.faults["reset after"] + flaky_emulator.faults["cut"] > 0


def test_eight_that_wait_hold_a_lease_one_after_the_other(emulator: Emulator) -> None:
    path = f"{emulator.bucket}/lease.json"
    inside: list[int] = []
    most = 0

    def work(number: int) -> None:
        nonlocal most
        with lease(path, "the folder", seconds=SECONDS, waiting=lambda host: None):
            inside.append(number)
            most = max(most, len(inside))
            time.sleep(0.05)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == 1
    assert not storage.exists(path)


def test_a_live_holder_is_not_disturbed(emulator: Emulator) -> None:
    path = f"{emulator.bucket}/lease.json"
    with lease(path, "the folder", seconds=SECONDS):
        with pytest.raises(LeasedError), lease(path, "the folder", seconds=SECONDS):
            pass
        time.sleep(2 * SECONDS)
        with pytest.raises(LeasedError), lease(path, "the folder", seconds=SECONDS):
            pass


def test_two_that_find_a_lapsed_lease_do_not_both_take_it(emulator: Emulator) -> None:
    path = f"{emulator.bucket}/lease.json"
    gone = Lease(
        holder="x",
        host="gone",
        process=Process(boot="other", namespace="", pid=1, started=""),
        renewals=3,
    )
    storage.write_bytes(path, json.dumps(contracts.to_json(gone)).encode())

    def take(number: int) -> bool:
        try:
            with lease(path, "the folder", seconds=SECONDS):
                time.sleep(3 * SECONDS)
        except LeasedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(take, range(4))).count(True) == 1


def test_a_holder_that_was_frozen_for_too_long_ends_itself(emulator: Emulator) -> None:
    path = f"{emulator.bucket}/lease.json"
    program = (
        "import sys, time\nfrom preprocessing.storage import leases\n"
        "with leases.lease(sys.argv[1], 'the folder', seconds=1.0):\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, path]) as holder:
        while not storage.exists(path):
            time.sleep(0.05)
        taken, version = read_versioned(path)
        other = {**json.loads(taken), "holder": "another"}
        while not swap_bytes(path, json.dumps(other).encode(), version):
            taken, version = read_versioned(path)
        assert holder.wait(30) == 2
    assert leases.RENEWALS > 1
