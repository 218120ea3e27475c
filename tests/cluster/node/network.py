"""A network of the pods alone: one switch, one address a pod, and the cluster's names.

Interfaces live in network namespaces that end with the processes holding them, so nothing has to
be cleaned up and no packet can leave.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.cluster.control_plane import POD_GATEWAY, die_with_parent

SUBNET = ipaddress.ip_network("10.244.0.0/16")
GATEWAY = POD_GATEWAY  # the DNS server, and the door to the API server
NEW_NET = 0x40000000
T = TypeVar("T")


@dataclass
class PodNetwork:
    """The network of one pod; it ends with `holder`."""

    holder: subprocess.Popen[bytes]
    address: str

    def close(self) -> None:
        """Take the interface away."""
        self.holder.kill()
        self.holder.wait()


def can_make_namespaces() -> bool:
    """Return whether this process may give a pod its namespaces; a container may forbid root to."""
    command = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Switch:
    """Connects pods with each other and with nothing else.

    Args:
        resolve: From a fully qualified name without the last dot to addresses; None if there is
            no such name.
        api_server_port: On this machine's loopback; pods reach it at `GATEWAY`, same port.
    """

    def __init__(self, resolve: Callable[[str], list[str] | None], api_server_port: int) -> None:
        self._holder = _holder()
        self._hosts = (str(address) for address in itertools.islice(SUBNET.hosts(), 1, None))
        self._lock = threading.Lock()
        self._inside("ip link add switch type bridge")
        self._inside(f"ip addr add {GATEWAY}/{SUBNET.prefixlen} dev switch")
        self._inside("ip link set switch up")
        self._inside("ip link set lo up")
        names = self._socket(socket.SOCK_DGRAM, GATEWAY, 53)
        door = self.listen(GATEWAY, api_server_port)
        threading.Thread(target=serve_names, args=[names, resolve], daemon=True).start()
        threading.Thread(target=forward, args=[door, api_server_port], daemon=True).start()

    def connect(self) -> PodNetwork:
        """Return a new network with an address nobody had before."""
        holder = _holder()
        with self._lock:
            address = next(self._hosts)
        port = f"p{holder.pid}"
        self._inside(f"ip link add {port} type veth peer name eth0 netns {holder.pid}")
        self._inside(f"ip link set {port} master switch up")
        for command in (
            f"ip addr add {address}/{SUBNET.prefixlen} dev eth0",
            "ip link set eth0 up",
            "ip link set lo up",
            f"ip route add default via {GATEWAY}",
        ):
            _in_network(holder.pid, command)
        return PodNetwork(holder, address)

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a socket that accepts what pods send to an address."""
        if address != GATEWAY:
            self._inside(f"ip addr add {address}/32 dev switch")
        listening = self._socket(socket.SOCK_STREAM, address, port)
        listening.listen(64)
        return listening

    def _inside(self, command: str) -> None:
        _in_network(self._holder.pid, command)

    def _socket(self, kind: int, address: str, port: int) -> socket.socket:
        bound = inside(self._holder.pid, lambda: socket.socket(socket.AF_INET, kind))
        bound.settimeout(None)  # whatever default a library has set for this process
        bound.bind((address, port))
        return bound


def inside(pid: int, call: Callable[[], T]) -> T:
    """Call in the network of process `pid`: what sockets `call` makes belong there.

    Raises:
        OSError: Of `call`, or that network is gone.
    """
    results: list[T] = []
    errors: list[OSError] = []

    def enter() -> None:  # a thread can change its network alone, and ends with it
        try:
            with open(f"/proc/{pid}/ns/net") as network:
                if ctypes.CDLL(None).setns(network.fileno(), NEW_NET):
                    raise OSError(f"no permission to enter the network of process {pid}")
            results.append(call())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def serve_names(server: socket.socket, resolve: Callable[[str], list[str] | None]) -> None:
    """Answer DNS queries for ever."""
    while True:
        query, client = server.recvfrom(4096)
        with contextlib.suppress(OSError, ValueError, IndexError, struct.error):
            server.sendto(answer(query, resolve), client)


def answer(query: bytes, resolve: Callable[[str], list[str] | None]) -> bytes:
    """Answer one DNS query (RFC 1035): addresses, no data, or no such name."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    question = query[12 : at + 5]
    (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
    addresses = resolve(".".join(labels).lower())
    records = [
        b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
        for address in (addresses or [] if kind == 1 else [])
    ]
    code = 3 if addresses is None else 0
    header = query[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(records), 0, 0)
    return header + question + b"".join(records)


def _holder() -> subprocess.Popen[bytes]:
    """Return a process that does nothing in a network namespace of its own."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    assert holder.stdout
    if not holder.stdout.readline():
        raise RuntimeError("cannot make a network namespace: the pods need root")
    return holder


def _in_network(pid: int, command: str) -> None:
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", *command.split()], check=True)


def forward(door: socket.socket, port: int, greeting: bytes = b"") -> None:
    """Carry connections from the pods' network to this machine's loopback, for ever.

    Args:
        door: What pods connect to.
        port: On the loopback.
        greeting: Sent first on each connection, to a proxy whose answer no pod shall see.
    """
    door.settimeout(None)  # Beam's client for Google sets a default for all sockets of a process
    while True:
        inside, _ = door.accept()
        inside.settimeout(None)
        try:
            outside = socket.create_connection(("127.0.0.1", port), timeout=None)
            outside.sendall(greeting)
            answered = b""
            while greeting and not answered.endswith(b"\r\n\r\n"):
                answered += outside.recv(1)
        except OSError:
            inside.close()
            continue
        for source, target in ((inside, outside), (outside, inside)):
            threading.Thread(target=_copy, args=[source, target], daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def resolver_file(namespace: str) -> str:
    """Return `/etc/resolv.conf` of a pod, as kubelet writes it but for a more patient client."""
    search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local"
    return f"nameserver {GATEWAY}\nsearch {search}\noptions ndots:5 attempts:5\n"


def hosts_file(hostname: str, address: str) -> str:
    """Return `/etc/hosts` of a pod."""
    return f"127.0.0.1\tlocalhost\n{address}\t{hostname}\n"
