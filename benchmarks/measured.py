"""The time and the memory of a command with all processes that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

KIB_PER_MIB = 1024
SECONDS_BETWEEN_SAMPLES = 0.1
SAMPLES_PER_SUM = 5  # the kernel walks all pages of a process for its share of them


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: Wall time.
        largest_mib: Highest resident memory of any one process.
        all_mib: Highest sum over all processes at one time; a page that several of them share
            counts once.
        output: What it wrote to stdout.
    """

    seconds: float
    largest_mib: float
    all_mib: float
    output: str


def run_measured(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, until: bytes = b""
) -> Measured:
    """Run a command that must succeed, and sample its memory meanwhile.

    Args:
        command: The command.
        environment: Variables that it gets besides those of this process.
        until: Part of a line on stderr after which the command is ended.

    Raises:
        SystemExit: The command failed; the message holds its last lines.
    """
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as stdout,
        subprocess.Popen(
            command,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        ) as leader,
    ):
        assert leader.stderr
        messages = _Messages(leader.stderr, until)
        peaks = MemoryPeaks(leader.pid)
        while leader.poll() is None and messages.seen_at is None:
            peaks.sample()
            time.sleep(SECONDS_BETWEEN_SAMPLES)
        seconds = (messages.seen_at or time.perf_counter()) - started
        if messages.seen_at:
            os.killpg(leader.pid, signal.SIGKILL)
        messages.join()
        if leader.wait() and not messages.seen_at:
            last = b"".join(messages.last).decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} ended with {leader.returncode}:\n{last}")
        stdout.seek(0)
        return Measured(
            seconds=seconds,
            largest_mib=peaks.largest_mib,
            all_mib=peaks.all_mib,
            output=stdout.read().decode(),
        )


class _Messages(threading.Thread):
    """Reads the messages of a process, so that it never waits for its reader.

    Attributes:
        last: The last lines.
        seen_at: Time of the first line that holds what was waited for.
    """

    def __init__(self, stream: IO[bytes], until: bytes) -> None:
        super().__init__(daemon=True)
        self.last: deque[bytes] = deque(maxlen=50)
        self.seen_at: float | None = None
        self._stream = stream
        self._until = until
        self.start()

    def run(self) -> None:
        """Read until the process has closed its end."""
        for line in self._stream:
            self.last.append(line)
            if self._until and self.seen_at is None and self._until in line:
                self.seen_at = time.perf_counter()


class MemoryPeaks:
    """The highest memory that samples of a session have shown.

    Attributes:
        all_mib: Highest sum over the processes of the session, in MiB.
    """

    def __init__(self, session: int) -> None:
        self.all_mib = 0.0
        self._session = session
        self._num_samples = 0
        self._peak_kib: dict[str, int] = {}

    @property
    def largest_mib(self) -> float:
        """Highest resident memory of any one process, in MiB."""
        return max(self._peak_kib.values(), default=0) / KIB_PER_MIB

    def sample(self) -> None:
        """Look at all processes of the session."""
        processes = list(_processes(self._session))
        for process in processes:
            peak_kib = _kib(process / "status", "VmHWM:")
            self._peak_kib[process.name] = max(self._peak_kib.get(process.name, 0), peak_kib)
        if self._num_samples % SAMPLES_PER_SUM == 0:
            together_kib = sum(_kib(process / "smaps_rollup", "Pss:") for process in processes)
            self.all_mib = max(self.all_mib, together_kib / KIB_PER_MIB)
        self._num_samples += 1


def _processes(session: int) -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == session:
                yield process
        except OSError:
            continue  # it has just ended


def _kib(path: Path, name: str) -> int:
    """Return the value of a line `name: N kB`; 0 of a process that has just ended."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
