"""One container of a pod: its process, its log, its state."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.control_plane import die_with_parent
from tests.cluster.node import isolate, probes

PROBE_SECONDS = 1.0


class Container:
    """A started container.

    Args:
        spec: Of the container.
        described: For `isolate.py`.
        scratch: Folder for its files: `log`, `pid`.
        restarts: How often it was started before.
    """

    def __init__(self, spec: Object, described: Object, scratch: Path, restarts: int) -> None:
        self.name, self._spec = spec["name"], spec
        self._pid_file = Path(described["pid_file"])
        self._started, self._finished = now(), ""
        self._id = f"process://{scratch.parent.parent.name}/{self.name}/{restarts}"
        self._restarts, self._network = restarts, described["network"]
        self._probed, self._ready = 0.0, not spec.get("readinessProbe")
        described_path = scratch / "spec.json"
        described_path.write_text(json.dumps(described))
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(isolate.__file__), str(described_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        self._log = threading.Thread(target=self._copy_log, args=[scratch / "log"], daemon=True)
        self._log.start()

    def code(self) -> int | None:
        """Return the exit code, 128 + signal if killed; None while it runs."""
        code = self._process.poll()
        if code is not None and not self._finished:
            self._log.join()
            self._finished = now()
        return code if code is None or code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Signal the first process inside."""
        if self._process.poll() is not None:
            return
        if number == signal.SIGTERM:
            self._process.send_signal(number)  # passed on
        elif self._pid_file.exists():
            os.kill(int(self._pid_file.read_text()), number)

    def status(self) -> Object:
        """Its part of the pod's status."""
        code = self.code()
        state: Object = {"running": {"startedAt": self._started}}
        if code is not None:
            state = {
                "terminated": {
                    "exitCode": code,
                    "reason": "Error" if code else "Completed",
                    "startedAt": self._started,
                    "finishedAt": self._finished,
                    "containerID": self._id,
                }
            }
        return {
            "name": self.name,
            "image": self._spec["image"],
            "imageID": "",
            "containerID": self._id,
            "restartCount": self._restarts,
            "ready": code is None and self._is_ready(),
            "started": code is None,
            "state": state,
        }

    def _is_ready(self) -> bool:
        probe = self._spec.get("readinessProbe")
        if probe and time.monotonic() >= self._probed + PROBE_SECONDS:
            self._probed = time.monotonic()
            self._ready = probes.passes(probe, self._spec, self._network)
        return self._ready

    def _copy_log(self, path: Path) -> None:
        """Each line with its time before it, as the kubelet's log files."""
        assert self._process.stdout
        with open(path, "ab", buffering=0) as log:
            for line in self._process.stdout:
                log.write(f"{now(precise=True)} ".encode() + line.rstrip(b"\n") + b"\n")


def waiting(spec: Object, reason: str, message: str = "") -> Object:
    """Return the status of a container that has not started."""
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "restartCount": 0,
        "ready": False,
        "started": False,
        "state": {"waiting": {"reason": reason, "message": message}},
    }


def now(precise: bool = False) -> str:
    """Return the time as the API writes it; `precise` to the microsecond."""
    moment = datetime.datetime.now(datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if precise else "%Y-%m-%dT%H:%M:%SZ")
