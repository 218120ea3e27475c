"""The embedded registry: an MLflow database in one SQLite file of this machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import platformdirs

from pipeline.local import processes
from pipeline.publish.passwords import without_password
from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.terminal import unheard_by_children

_SCHEME = "sqlite:///"


def default_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or a SQLite file in the user's data folder."""
    from_environment = os.environ.get("MLFLOW_TRACKING_URI")
    return from_environment or sqlite_uri(platformdirs.user_data_dir("mobilenet"))


def sqlite_uri(folder: str) -> str:
    """Return the URI of the embedded registry in `folder`."""
    return f"{_SCHEME}{os.path.abspath(os.path.join(folder, 'mlflow.db'))}"


def sqlite_file(uri: str) -> str | None:
    """Return the file of an embedded registry, as an absolute path; None for a server."""
    return os.path.abspath(uri.removeprefix(_SCHEME)) if uri.startswith(_SCHEME) else None


def browse_command(uri: str, program: str = "mobilenet") -> str:
    """Return the command, or address, that shows the registry's page."""
    database = sqlite_file(uri)
    return (
        f"{program} registry --database {shlex.quote(database)}"
        if database
        else without_password(uri)
    )


@contextlib.contextmanager
def exclusive(database: str | None) -> Iterator[None]:
    """Hold an embedded registry while the block runs, and make its database if there is none.

    One process at a time has it, because it is not safe for two to make a database's tables.

    Args:
        database: The SQLite file; None, for a server, holds nothing.
    """
    if database is None:
        yield
        return
    os.makedirs(os.path.dirname(database), exist_ok=True)
    with storage.lock_file(f"{database}.lock"):
        if not os.path.exists(database):
            _make_database(database)
        yield


def _make_database(database: str) -> None:
    """Make MLflow's tables, all or none: a process killed halfway would leave a useless file."""
    from mlflow import MlflowClient

    partial = f"{database}{storage.PARTIAL}tables"
    for leftover in (partial, f"{partial}-journal"):
        if os.path.exists(leftover):
            os.unlink(leftover)
    uri = f"{_SCHEME}{partial}"
    client = MlflowClient(uri, uri)
    client.search_experiments()
    client.search_registered_models()
    os.replace(partial, database)


def serve(database: str, port: int) -> int:
    """Show the registry's page until interrupted or asked to end; return the exit code."""
    if not os.path.exists(database):
        raise UsageError(f"no registry at {database}; publish something first")
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"{_SCHEME}{os.path.abspath(database)}"),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--workers", "1"),
    ]
    # Eight more processes would wait for jobs, which evaluate language models.
    no_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with unheard_by_children():
        server = subprocess.Popen(
            command,
            env={**os.environ, **processes.SAFE_PATH, **no_jobs},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    assert server.stderr is not None
    for line in server.stderr:  # through this process, which is mute once it is interrupted
        sys.stderr.write(line)
    return server.wait()
