"""Ctrl-C or a closed terminal ends every command soon, in one line, with all its processes.

A terminal sends its signals to all processes of a command, so most are sent to a whole session.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli.registry import COMMANDS
from tests.conftest import mobilenet
from tests.k8s import tools
from tests.pipeline.conftest import Exported
from tests.preprocessing.content import content
from tests.sessions import members, wait_until_gone

LINE = "mobilenet: interrupted; run the same command again, it continues"
TRAINING_LINE = re.compile(r"mobilenet: (terminated|interrupted twice);.* to continue")
NEVER = ("Traceback", "Exception ignored", "leaked", "Fatal", "core dumped")
IMAGE = Path(__file__).parents[2] / "data" / "image0.jpg"
SOON_SECONDS = 5.0
SAVING_SECONDS = 20.0  # loop.grace_seconds and the reserve, for a training that has begun
SCALES_SECONDS = (0.3, 2.0, 6.0)  # imports, preparations, work

KINDS = ("Ctrl-C", "Ctrl-C twice", "closed terminal", "main process only")


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """What became of a command.

    Attributes:
        code: The exit code.
        err: All of stderr.
        was_running: Whether it still ran when it was interrupted.
        seconds: From the first signal until the last of its processes was gone.
    """

    code: int
    err: str
    was_running: bool
    seconds: float


def interrupt(command: list[str], kind: str, moment: float, gap: float, err: Path) -> Interrupted:
    """Run a command and interrupt it `moment` seconds after it began to listen."""
    with err.open("wb") as stderr, running(command, stderr.fileno()) as process:
        while process.poll() is None and not listens(process.pid):
            time.sleep(0.001)
        wait(process, moment)
        was_running = process.poll() is None
        started = time.monotonic()
        if was_running:
            send(process, kind)
            if kind == "Ctrl-C twice":
                wait(process, gap)
                send(process, kind)
        wait(process, SAVING_SECONDS)
        while list(members(process.pid)) and time.monotonic() < started + SAVING_SECONDS:
            time.sleep(0.01)
        seconds = time.monotonic() - started
    return Interrupted(
        code=process.wait(), err=err.read_text(), was_running=was_running, seconds=seconds
    )


@contextmanager
def running(command: list[str], stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own, of which nothing outlives the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def listens(pid: int) -> bool:
    """Return whether a process hears that its terminal was closed; Python alone does not."""
    return closing_is(pid, "SigCgt")


def closing_is(pid: int, kind: str) -> bool:
    """Return whether /proc says that a closed terminal is `SigCgt` (caught) or `SigIgn`."""
    signals = re.search(rf"{kind}:\t(\w+)", Path(f"/proc/{pid}/status").read_text())
    return signals is None or bool(int(signals[1], 16) & 1 << (signal.SIGHUP - 1))


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def send(process: subprocess.Popen[bytes], kind: str) -> None:
    number = signal.SIGHUP if kind == "closed terminal" else signal.SIGINT
    if process.poll() is None:
        (os.kill if kind == "main process only" else os.killpg)(process.pid, number)


@pytest.fixture(scope="module")
def silent_server() -> Iterator[int]:
    """Provide the port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def cluster(silent_server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cluster's commands wait for an API server, and put temporary files aside."""
    (tmp_path / "kubeconfig").write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": "c", "cluster": {"server": f"http://127.0.0.1:{silent_server}"}}
                ],
                "users": [{"name": "me", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "me"}}],
                "current-context": "c",
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


def command_lines(
    folder: Path, archives: Path, exported: Exported, uri: str, port: int
) -> dict[str, list[str]]:
    """Return a command line of every command, which is small or waits for `port`."""
    export, run = str(exported.folder), exported.what.workdir
    variant = exported.what.variant.name
    records, workdir = f"--records={exported.what.records}", f"--workdir={folder}/run"
    small = ["--variant=shallow_0.35_32", "--recipe=demo", records]
    return {
        "demo": [f"--output={folder}/demo"],
        "sample": [f"--output={folder}/sample"],
        "prepare": [f"--source={archives}", f"--records={folder}/records", "--workers=2"],
        "adopt": [exported.what.records],
        "inspect": [exported.what.records, "--verify"],
        "variants": [],
        "recipes": [],
        "config": [],
        "plan": ["--variant=mobilenet_v2_1.0_224", "--gpus=8", f"--plot={folder}/plan.png"],
        "diagnose": small,
        "certify": [*small, f"--output={folder}/certificate", "--minutes=0.1"],
        "train": [*small, workdir, "--workers=2"],
        "evaluate": [records, f"--workdir={run.path}"],
        "runs": [str(folder.parent)],
        "dashboard": [run.path, f"--port={free_port()}", "--wait"],
        "data-service": [
            *("--role=worker", f"--port={free_port()}"),
            f"--dispatcher=grpc://127.0.0.1:{free_port()}",
        ],
        "import-checkpoint": [export, f"--variant={variant}", workdir],
        "export": [records, f"--workdir={run.path}", f"--output={folder}/export"],
        "predict": [str(IMAGE), f"--model={export}"],
        "benchmark": [export],
        "publish": [export, f"--to={folder}/published", f"--registry={uri}"],
        "register": [export, f"--registry={uri}"],
        "fetch": [variant, f"--from=https://127.0.0.1:{port}", f"--output={folder}/fetched"],
        "compare": [export, export, f"--registry={uri}"],
        "report": [export, f"--output={folder}/report.html", records],
        "table": [],
        "registry": [f"--database={uri.removeprefix('sqlite:///')}", f"--port={free_port()}"],
        "launch": ["--variant=mobilenet_v2_0.35_64", "--overlay=local", "--gpus=0"],
        "jobs": [],
        "logs": ["run"],
        "stop": ["run"],
        "resume": ["run"],
        "watch": [],
        "doctor": [],
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def check(name: str, outcome: Interrupted, described: str) -> None:
    """Check that an interrupted command ended as it must, or had ended before."""
    told = f"{described}: {outcome}"
    assert not [word for word in NEVER if word in outcome.err], told
    if not outcome.was_running or outcome.code == 0:
        return  # it was done
    assert outcome.code == 143, told
    assert outcome.seconds < (SAVING_SECONDS if name == "train" else SOON_SECONDS), told
    lines = [line for line in outcome.err.splitlines() if line.startswith("mobilenet: ")]
    assert lines == outcome.err.splitlines()[-1:], told
    assert lines[0] == LINE or TRAINING_LINE.fullmatch(lines[0]), told


@pytest.mark.slow
@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_ends_soon_and_in_one_line_at_any_moment(
    name: str,
    archives: Path,
    exported: Exported,
    uri: str,
    silent_server: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name == "launch":
        (tmp_path / "kustomize").mkdir()
        monkeypatch.setenv("PATH", tools.kustomize_on_path(tmp_path / "kustomize"))
    arguments = command_lines(tmp_path, archives, exported, uri, silent_server)[name]
    draws = random.Random(time.time_ns())
    kinds = draws.sample(KINDS, len(SCALES_SECONDS))
    for kind, scale in zip(kinds, SCALES_SECONDS, strict=True):
        moment, gap = draws.uniform(0, scale), draws.uniform(0, 0.5)
        outcome = interrupt([name, *arguments], kind, moment, gap, tmp_path / "err")
        check(name, outcome, f"{name}, {kind} after {moment:.3f} s, {gap:.3f} s")


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_while_the_command_is_still_imported(kind: str, tmp_path: Path) -> None:
    for _ in range(5):
        outcome = interrupt(["config"], kind, 0, 0, tmp_path / "err")
        assert outcome.was_running
        assert outcome.code == 143
        assert outcome.err == f"{LINE}\n"


@pytest.mark.slow
def test_an_interrupted_prepare_goes_on(archives: Path, records: Path, tmp_path: Path) -> None:
    command = [
        *("prepare", f"--source={archives}", f"--records={tmp_path}/records"),
        *("--workers=2", "--train-shards=40"),
    ]
    draws = random.Random(time.time_ns())
    for kind in KINDS:
        check("prepare", interrupt(command, kind, draws.uniform(1, 3), 0.1, tmp_path / "err"), kind)
    assert mobilenet(*command).code == 0
    command[2] = f"--records={tmp_path}/whole"
    assert mobilenet(*command).code == 0
    assert content(tmp_path / "records") == content(tmp_path / "whole")


def test_what_was_started_by_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, "-m", "pipeline", "sample", f"--output={tmp_path}/sample"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None:
            if closing_is(process.pid, "SigIgn"):
                process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
    assert process.returncode == 0


STUBBORN = """
import subprocess, sys, time
from pipeline.local import interruption
interruption.listen()
interruption.allow(1000)
subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '1000'])"])
try:
    print("go", flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    print("swallowed", flush=True)
while True:
    time.sleep(1000)
"""


def test_a_second_ctrl_c_ends_what_swallowed_the_first_with_all_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        for word in ("go\n", "swallowed\n"):
            assert process.stdout.readline() == word
            process.send_signal(signal.SIGINT)
        assert process.stderr.read() == f"{LINE}\n"  # to the end: nobody holds it any more
    assert process.returncode == 143
    wait_until_gone(process.pid)
