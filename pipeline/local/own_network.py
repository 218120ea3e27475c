"""A network that only the workers of one run are in, so that nobody else reaches them.

TensorFlow's servers listen at every address of a machine and run what anyone asks of them: who
reaches a port may read and write every file that the worker may. In a network namespace with
nothing but loopback only the processes of the same namespace reach it. Linux lets everyone make
one (with a user namespace of the same user) unless the system's administrator forbids it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
# What the holder says, and what of it `nsenter` then enters.
ENTERED = {b"net\n": ["--net"], b"user net\n": ["--user", "--preserve-credentials", "--net"]}


@contextlib.contextmanager
def own_network() -> Iterator[list[str]]:
    """Make a network with nothing but loopback, which ends with its last process.

    Yields:
        What precedes a command that is to run in it.

    Raises:
        OSError: This system does not allow it; the message says what failed.
    """
    from preprocessing.terminal import unheard_by_children  # which the holder does not have

    enter = shutil.which("nsenter")
    if enter is None:
        raise OSError("nsenter of util-linux is not installed")
    with unheard_by_children():
        started = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,  # it ends when this is closed, even by a SIGKILL
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    with started as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stderr
        kinds = ENTERED.get(holder.stdout.readline())
        if kinds is None:
            lines = holder.stderr.read().decode(errors="replace").strip().splitlines()
            raise OSError(lines[-1] if lines else "no namespace could be made")
        try:
            yield [enter, f"--target={holder.pid}", *kinds, "--"]
        finally:
            holder.stdin.close()


def _hold() -> None:
    """Be the process that made the network, and wait until nobody needs it."""
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare(CLONE_NEWNET)
        entered = b"net\n"
    except PermissionError:  # only root may, but everyone is root in a user namespace
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        entered = b"user net\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
    os.write(1, entered)
    os.read(0, 1)


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    with open(path, "wb") as file:
        file.write(text.encode())


if __name__ == "__main__":
    try:
        _hold()
    except OSError as error:
        sys.exit(str(error.strerror or error))
