"""A network with nothing but loopback that notes what its processes look up and try to reach."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.control_plane import die_with_parent
from tests.cluster.node.network import inside, serve_names
from tests.conftest import Outcome

ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
# Of the environment. `CI` and its like are not: libraries that see it report nothing.
KEPT = re.compile("PATH|TMPDIR|LANG|LC_.*|LD_LIBRARY_PATH|OPENBLAS_.*|TF_CPP_.*|TF_NUM_.*")
MARKER = "192.0.2.1"  # an address for documentation (RFC 5737), which nobody else names
# Every address is this machine's, so that a connection to any is seen and refused at once.
ISOLATE = """
set -e
cd "$0"
mount --bind resolv.conf /etc/resolv.conf
mount --bind nsswitch.conf /etc/nsswitch.conf
mount --bind hosts /etc/hosts
for daemon in /var/run/nscd /run/systemd/resolve; do
  [ ! -d $daemon ] || mount --bind nothing $daemon
done
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
echo ready
exec sleep infinity
"""


@dataclass
class RecordedNetwork:
    """What the processes of a network asked for.

    Attributes:
        holder: The process that keeps the network.
        home: Home folder of its processes, empty at first.
        asked: Names that were looked up, and addresses but loopback that were sent anything (IPv4).
        marker: A socket in the network.
    """

    holder: subprocess.Popen[bytes]
    home: Path
    asked: set[str]
    marker: socket.socket

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in this network, with pipes to it."""
        return subprocess.Popen(
            ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(environment),
        )

    def mobilenet(self, *arguments: str, **environment: str) -> Outcome:
        """Run `mobilenet` in this network to its end."""
        with self.start(sys.executable, "-m", "pipeline", *arguments, **environment) as process:
            out, err = process.communicate()
        return Outcome(process.returncode, out, err)

    def serve(self, port: int, *arguments: str, **environment: str) -> Outcome:
        """Run `mobilenet` until it serves a port, or for port 0 says something; then stop it."""
        with self.start(sys.executable, "-m", "pipeline", *arguments, **environment) as server:
            assert server.stderr
            first = "" if port else server.stderr.readline()
            while port and server.poll() is None and not self._answers(port):
                time.sleep(0.1)
            server.send_signal(signal.SIGTERM)
            # Until the last process that has its pipes has ended: a server leaves none behind.
            out, err = server.communicate(timeout=300)
        return Outcome(server.returncode, out, first + err)

    def _answers(self, port: int) -> bool:
        try:
            inside(self.holder.pid, lambda: socket.create_connection(("127.0.0.1", port))).close()
        except OSError:
            return False
        return True

    def taken(self) -> set[str]:
        """Return the names and addresses since the last call."""
        self.marker.sendto(b"", (MARKER, 9))  # what was sent before it is noted before it
        while MARKER not in self.asked:
            time.sleep(0.01)
        taken = self.asked - {MARKER}
        self.asked.clear()
        return taken

    def _environment(self, changed: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
        return {**kept, "HOME": str(self.home), **changed}


@contextlib.contextmanager
def recorded_network(folder: Path) -> Iterator[RecordedNetwork]:
    """Make a network that ends with the block; this needs root and iproute2.

    Args:
        folder: An empty folder, for what the network needs.
    """
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\npasswd: files\ngroup: files\n")
    (folder / "hosts").write_text(f"127.0.0.1 localhost {platform.node()}\n::1 localhost\n")
    for name in ("nothing", "home"):
        (folder / name).mkdir()
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", ISOLATE, str(folder)],
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,
    ) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"ready\n"
            asked: set[str] = set()
            _record(holder.pid, asked)
            marker = _socket(holder.pid, socket.AF_INET)
            yield RecordedNetwork(holder, folder / "home", asked, marker)
        finally:
            holder.kill()


def _record(pid: int, asked: set[str]) -> None:
    """Start to note names and addresses, until this process ends."""
    server = _socket(pid, socket.AF_INET)
    server.bind(("127.0.0.1", 53))
    packets = _socket(pid, socket.AF_PACKET, socket.htons(ALL_PROTOCOLS))
    packets.bind(("lo", 0))
    threading.Thread(target=serve_names, args=[server, asked.add], daemon=True).start()
    threading.Thread(target=_note_addresses, args=[packets, asked], daemon=True).start()


def _socket(pid: int, family: int, protocol: int = 0) -> socket.socket:
    made = inside(pid, lambda: socket.socket(family, socket.SOCK_DGRAM, protocol))
    made.settimeout(None)  # whatever default a library has set for this process
    return made


def _note_addresses(packets: socket.socket, asked: set[str]) -> None:
    while True:
        header = packets.recv(64)  # the rest is cut off
        address = socket.inet_ntoa(header[16:20])
        if header[0] >> 4 == 4 and not address.startswith("127."):
            asked.add(address)
