"""Machines of a cluster as network namespaces, joined by a link that delays and loses packets.

The kernel's `netem` does the same where it is compiled in. Here a thread carries every packet
between TUN devices, one in each namespace, so that it works on any Linux, as root.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MTU_BYTES = 9000
MAX_PACKET_BYTES = 65536


def address_of(machine: int) -> str:
    """Return the address of a machine by its number."""
    return f"10.77.0.{machine + 1}"


class LossyNetwork:
    """The link between some machines, which a thread drives."""

    def __init__(self, tunnels: Sequence[int], delay_ms: float, loss: float) -> None:
        self._tunnels = tunnels
        self._delay_s = delay_ms / 1000
        self._loss = loss
        self._down_until = [0.0] * len(tunnels)
        self._draws = random.Random(0)
        self._ended = False
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def take_down(self, machine: int, seconds: float) -> None:
        """Lose every packet to and from a machine for a while."""
        self._down_until[machine] = time.monotonic() + seconds

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._thread.join()

    def _carry(self) -> None:
        by_address = {
            socket.inet_aton(address_of(machine)): machine for machine in range(len(self._tunnels))
        }
        under_way: list[tuple[float, int, int, bytes]] = []
        number = 0
        while not self._ended:
            wait = under_way[0][0] - time.monotonic() if under_way else 0.1
            for tunnel in select.select(self._tunnels, [], [], min(0.1, max(0.0, wait)))[0]:
                packet = os.read(tunnel, MAX_PACKET_BYTES)
                machine = by_address.get(packet[16:20]) if packet[0] >> 4 == 4 else None
                if machine is not None and self._arrives(self._tunnels.index(tunnel), machine):
                    number += 1
                    at = time.monotonic() + self._delay_s
                    heapq.heappush(under_way, (at, number, machine, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, machine, packet = heapq.heappop(under_way)
                with contextlib.suppress(OSError):
                    os.write(self._tunnels[machine], packet)

    def _arrives(self, source: int, target: int) -> bool:
        now = time.monotonic()
        is_up = max(self._down_until[source], self._down_until[target]) <= now
        return is_up and self._draws.random() >= self._loss


@contextlib.contextmanager
def lossy_network(
    machines: int, *, delay_ms: float, loss: float
) -> Iterator[tuple[LossyNetwork, list[list[str]]]]:
    """Provide the network, and for each machine what precedes a command that is to run on it.

    Args:
        machines: Number of machines.
        delay_ms: Delay of every packet, each way.
        loss: Fraction of packets that are lost, in [0, 1).
    """
    with contextlib.ExitStack() as stack:
        tunnels, prefixes = [], []
        for machine in range(machines):
            tunnel, pid = stack.enter_context(_machine(machine))
            tunnels.append(tunnel)
            prefixes.append(["nsenter", f"--target={pid}", "--net", "--"])
        network = LossyNetwork(tunnels, delay_ms, loss)
        stack.callback(network.close)
        yield network, prefixes


def processes_on(prefix: Sequence[str]) -> list[int]:
    """Return the processes on a machine besides the one that holds it."""
    holder = int(prefix[1].partition("=")[2])
    network = os.readlink(f"/proc/{holder}/ns/net")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "ns" / "net") == network and int(process.name) != holder:
                found.append(int(process.name))
    return found


@contextlib.contextmanager
def _machine(number: int) -> Iterator[tuple[int, int]]:
    """Provide the TUN device of a new namespace and the process that holds the namespace."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            ["unshare", "--net", sys.executable, "-P", __file__, str(number), str(theirs.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        ) as holder,
    ):
        theirs.close()
        _, (tunnel,), _, _ = socket.recv_fds(ours, 1, 1)
        try:
            yield tunnel, holder.pid
        finally:
            os.close(tunnel)
            assert holder.stdin
            holder.stdin.close()


def _hold(number: int, connection: int) -> None:
    """Be a machine: make its device, hand it over, and wait until nobody needs it."""
    tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    for command in (
        "ip link set lo up",
        f"ip address add {address_of(number)}/24 dev tun0",
        f"ip link set tun0 mtu {MTU_BYTES} up",
    ):
        subprocess.run(command.split(), check=True)
    with socket.socket(fileno=connection) as theirs:
        socket.send_fds(theirs, [b"+"], [tunnel])
    os.close(tunnel)
    sys.stdin.read()


if __name__ == "__main__":
    _hold(int(sys.argv[1]), int(sys.argv[2]))
