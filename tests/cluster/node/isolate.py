"""Run one process as a container: `python isolate.py SPEC.json`, as root.

Started by the agent. This process stays outside as the parent: it passes SIGTERM on, dies with
the agent, and ends with the exit code of the process inside (128 + signal if one killed it).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

NEW_MOUNTS, NEW_UTS, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_PIDS, NEW_NET = 0x20000000, 0x40000000
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
PARENT_DEATH_SIGNAL, NO_NEW_PRIVILEGES = 1, 38
CANNOT_START = 128  # as containerd reports a command that is not there

libc = ctypes.CDLL(None, use_errno=True)


def main(spec: dict[str, Any]) -> NoReturn:
    """Become the parent of a container.

    Args:
        spec: `network` (of a process id), `hostname`, `root` (an empty folder), `read_only`,
            `mounts` ([source, path, read-only]), `command`, `environment`, `folder`, `user`,
            `group`, `groups`, `pid_file`.
    """
    libc.prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    with open(f"/proc/{spec['network']}/ns/net") as network:
        _check(libc.setns(network.fileno(), NEW_NET), "setns")
    _check(libc.unshare(NEW_MOUNTS | NEW_UTS | NEW_IPC | NEW_PIDS), "unshare")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()  # the first process of the new process numbers: it ends, all end
    if not child:
        _inside(spec)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    Path(spec["pid_file"]).write_text(str(child))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _inside(spec: dict[str, Any]) -> NoReturn:
    try:
        _file_system(spec)
        socket.sethostname(spec["hostname"])
        os.setgroups(spec["groups"])
        os.setgid(spec["group"])
        os.setuid(spec["user"])
        libc.prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)  # which a change of user takes back
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        os.chdir(spec["folder"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.execvpe(spec["command"][0], spec["command"], spec["environment"])
    except OSError as error:
        print(f"cannot start {spec['command']}: {error}", file=sys.stderr, flush=True)
        os._exit(CANNOT_START)


def _file_system(spec: dict[str, Any]) -> None:
    root = spec["root"]
    _mount("none", "/", flags=RECURSIVE | PRIVATE)  # nothing from here on reaches the host
    _mount("tmpfs", root, kind="tmpfs")
    os.chmod(root, 0o755)
    # Parents first: what is mounted later over a folder hides what was mounted below it.
    mounts = sorted(spec["mounts"], key=lambda mount: mount[1].count("/"))
    for source, path, _ in mounts:
        target = root + path
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target):
                Path(target).touch()
        _mount(source, target, flags=BIND | RECURSIVE)
    for _, path, read_only in mounts:
        if read_only:
            _mount("none", root + path, flags=REMOUNT | BIND | READ_ONLY)
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
    os.makedirs(root + "/proc", exist_ok=True)
    _mount("proc", root + "/proc", kind="proc")
    for path in (spec["folder"], "/tmp"):
        if not os.path.exists(root + path):
            os.makedirs(root + path)
            os.chmod(root + path, 0o1777)
    if spec["read_only"]:
        _mount("none", root, flags=REMOUNT | BIND | READ_ONLY)
    os.chroot(root)


def _mount(source: str, target: str, kind: str = "none", flags: int = 0) -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), flags, None)
    _check(libc.mount(*arguments), f"mount {source} on {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file))
