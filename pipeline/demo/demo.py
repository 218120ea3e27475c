"""The demo: the public commands, one after the other, on a small real dataset."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
import time
from typing import Any

from pipeline.local import processes
from pipeline.publish.embedded_registry import browse_command, sqlite_uri
from pipeline.publish.pages import accuracy_table
from pipeline.publish.published_index import read_index

logger = logging.getLogger(__name__)

VARIANT = "mobilenet_v2_0.35_64"
INT8_TOLERANCE = 0.01  # of top-1


def run_demo(output: str, workers: int, overrides: list[str]) -> dict[str, Any]:
    """Run every stage that is not complete yet below `output`.

    Each stage is a command that anyone can run; this function only names the folders. A demo
    that was killed at any moment continues when it is run again.

    Args:
        output: The folder for everything that is made, the registry included.
        workers: The number of local training processes.
        overrides: Changes of the recipe, `section.field=value`.

    Returns:
        The result that the last line on stdout shows.
    """
    started = time.monotonic()
    archives, records = f"{output}/archives", f"{output}/records"
    workdir, export = f"{output}/runs/{VARIANT}", f"{output}/exports/{VARIANT}"
    published = f"{output}/published"
    registry = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(f"{output}/registry")
    os.makedirs(f"{output}/exports", exist_ok=True)
    _stage("sample", f"--output={archives}")
    prepared = _stage("prepare", f"--source={archives}", f"--records={records}")
    _stage(
        "train",
        f"--variant={VARIANT}",
        "--recipe=demo",
        f"--records={records}",
        f"--workdir={workdir}",
        f"--workers={workers}",
        *(f"--set={assignment}" for assignment in overrides),
    )
    _stage("evaluate", f"--workdir={workdir}", f"--records={records}")
    _stage(
        "export",
        f"--workdir={workdir}",
        f"--records={records}",
        f"--output={export}",
        f"--int8-tolerance={INT8_TOLERANCE}",
    )
    result = _stage("publish", export, f"--to={published}", f"--registry={registry}")
    _stage("fetch", VARIANT, f"--from={published}", f"--output={output}/fetched/{VARIANT}")
    report = f"{output}/report.html"
    _stage("report", export, f"--records={records}", f"--output={report}")
    logger.info(
        "%s",
        f"\n{accuracy_table.ours(read_index(published))}\n"
        f"table       {published}/README.md\n"
        f"models      {export}\n"
        f"report      {report}\n"
        f"TensorBoard {_program()} dashboard {shlex.quote(workdir)}\n"
        f"registry    {browse_command(registry, _program())}\n",
    )
    return {
        "variant": result["variant"],
        "seconds": round(time.monotonic() - started, 1),
        "top1": result["top1"],
        "top5": result["top5"],
        "macs": result["macs"],
        "parameters": result["parameters"],
        "export": export,
        "rejected": prepared["rejected"],
    }


def _stage(name: str, *arguments: str) -> dict[str, Any]:
    """Run one command as a child and return its result."""
    logger.info("%s", f"\n$ mobilenet {name} {shlex.join(arguments)}")
    started = time.monotonic()
    child = processes.start([name, *arguments], {}, stdout=subprocess.PIPE)
    assert child.stdout
    out = child.stdout.read()  # communicate() would close the pipe that the child lives by
    code = child.wait()
    if code:
        raise processes.failure(name, code)
    logger.info("%s", f"{name}: done in {time.monotonic() - started:.1f} s")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def _program() -> str:
    """Return how this command was called, so that the printed commands can be typed as they are."""
    name = sys.argv[0]
    return shlex.quote(name) if os.access(name, os.X_OK) else f"{sys.executable} -m pipeline"
