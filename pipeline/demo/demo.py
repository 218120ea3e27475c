"""The demo: the public commands, one after the other, on a small real dataset."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from pipeline.local import processes
from pipeline.publish.embedded_registry import browse_command, sqlite_uri
from pipeline.publish.pages import accuracy_table, terminal
from pipeline.publish.passwords import without_password
from pipeline.publish.published_index import read_index

logger = logging.getLogger(__name__)

VARIANT = "mobilenet_v2_0.35_64"
INT8_TOLERANCE = 0.01  # of top-1
SAVING_SECONDS = 4.0  # for an interrupted stage


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoFolders:
    """The folders of a demo below `output`."""

    output: str

    @property
    def archives(self) -> str:
        """Folder of the archives."""
        return f"{self.output}/archives"

    @property
    def records(self) -> str:
        """Folder of the records."""
        return f"{self.output}/records"

    @property
    def workdir(self) -> str:
        """Folder of the run."""
        return f"{self.output}/runs/{VARIANT}"

    @property
    def export(self) -> str:
        """Export directory."""
        return f"{self.output}/exports/{VARIANT}"

    @property
    def published(self) -> str:
        """Published folder."""
        return f"{self.output}/published"

    @property
    def report(self) -> str:
        """The HTML report."""
        return f"{self.output}/report.html"

    @property
    def registry(self) -> str:
        """URI of the registry: the user's server, or a file below `output`."""
        return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(f"{self.output}/registry")


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
    folders = DemoFolders(output=output)
    os.makedirs(f"{output}/exports", exist_ok=True)
    logger.info("%s", f"The demo writes everything below {output}:\n{_places(folders)}")
    prepared, published = _run_stages(folders, workers, overrides)
    _print_summary(folders)
    return {
        "variant": published["variant"],
        "seconds": round(time.monotonic() - started, 1),
        "top1": published["top1"],
        "top5": published["top5"],
        "macs": published["macs"],
        "parameters": published["parameters"],
        "export": folders.export,
        "rejected": prepared["rejected"],
    }


def _run_stages(
    folders: DemoFolders, workers: int, overrides: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run all stages; return the results of `prepare` and `publish`."""
    workdir, records = f"--workdir={folders.workdir}", f"--records={folders.records}"
    _stage("sample", f"--output={folders.archives}")
    prepared = _stage("prepare", f"--source={folders.archives}", records)
    _stage(
        "train",
        f"--variant={VARIANT}",
        "--recipe=demo",
        records,
        workdir,
        f"--workers={workers}",
        *(f"--set={assignment}" for assignment in overrides),
    )
    _stage("evaluate", workdir, records)
    _stage(
        "export",
        workdir,
        records,
        f"--output={folders.export}",
        f"--int8-tolerance={INT8_TOLERANCE}",
    )
    published = _stage(
        "publish", folders.export, f"--to={folders.published}", f"--registry={folders.registry}"
    )
    fetched = f"{folders.output}/fetched/{VARIANT}"
    _stage("fetch", VARIANT, f"--from={folders.published}", f"--output={fetched}")
    _stage("report", folders.export, records, f"--output={folders.report}")
    return prepared, published


def _print_summary(folders: DemoFolders) -> None:
    table = terminal.shown(accuracy_table.ours(read_index(folders.published)), sys.stderr)
    logger.info("%s", f"\n{table}\n{_places(folders)}")


def _places(folders: DemoFolders) -> str:
    """Return where everything is, and the commands that show it."""
    return (
        f"records     {folders.records}\n"
        f"run         {folders.workdir}\n"
        f"models      {folders.export}\n"
        f"table       {folders.published}/README.md\n"
        f"report      {folders.report}\n"
        f"TensorBoard {_program()} dashboard {shlex.quote(folders.workdir)}\n"
        f"registry    {browse_command(folders.registry, _program())}\n"
    )


def _stage(name: str, *arguments: str) -> dict[str, Any]:
    """Run one command as a child and return its result."""
    logger.info("%s", without_password(f"\n$ mobilenet {name} {shlex.join(arguments)}"))
    started = time.monotonic()
    child = processes.start([name, *arguments], {}, stdout=subprocess.PIPE)
    assert child.stdout
    try:
        out = child.stdout.read()  # communicate() would close the pipe that the child lives by
        code = child.wait()
    except KeyboardInterrupt:
        processes.stop_all([child], SAVING_SECONDS)
        raise
    if code:
        raise processes.failure(name, code)
    logger.info("%s", f"{name}: done in {time.monotonic() - started:.1f} s")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def _program() -> str:
    """Return how this command was called, so that the printed commands can be typed as they are."""
    name = sys.argv[0]
    return shlex.quote(name) if os.access(name, os.X_OK) else f"{sys.executable} -m pipeline"
