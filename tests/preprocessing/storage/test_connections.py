"""Without network or credentials, one line says so within seconds; public data needs neither."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from preprocessing import storage
from preprocessing.errors import UsageError
from tests.conftest import Outcome, mobilenet
from tests.emulator import Emulator

pytestmark = pytest.mark.slow

MOST_SECONDS = 15.0


@contextmanager
def silent_server() -> Iterator[str]:
    """Accept connections and never answer, as a broken metadata server does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def storage_that_denies(status: int) -> Iterator[str]:
    """Answer every request as Google's storage answers one that is not allowed."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(
                {
                    "error": {
                        "code": status,
                        "message": "Anonymous caller does not have storage.objects.get access.",
                    }
                }
            ).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def quickly(*arguments: str, emulator: str = "") -> Outcome:
    """Run a command, which must end soon with one line on stderr."""
    started = time.monotonic()
    outcome = (
        mobilenet(*arguments, STORAGE_EMULATOR_HOST=emulator) if emulator else mobilenet(*arguments)
    )
    assert time.monotonic() - started < MOST_SECONDS
    assert len(outcome.err.splitlines()) == 1, outcome.err
    return outcome


COMMANDS: list[tuple[str, ...]] = [
    ("inspect", "{url}/records"),
    ("table", "--published={url}/published"),
    ("fetch", "mobilenet_v2_1.0_224", "--from={url}/published"),
    ("prepare", "--source={url}/source", "--records={url}/records"),
    ("report", "{url}/export", "--output=report.html"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_nobody_serves_is_named(command: tuple[str, ...]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        named = [part.format(url="gs://bucket") for part in command]
        outcome = quickly(*named, emulator=f"http://{address}")
    assert outcome.code == 143
    assert outcome.err.startswith(f"mobilenet: {address} cannot be reached (Connection refused);")


def test_a_web_address_that_nobody_serves_is_named() -> None:
    outcome = quickly("fetch", "mobilenet_v2_1.0_224", "--from=http://nobody.invalid/published")
    assert outcome.code == 143
    assert outcome.err.startswith("mobilenet: nobody.invalid:80 cannot be reached")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_says_what_to_do(status: int) -> None:
    with storage_that_denies(status) as url:
        outcome = quickly("inspect", "gs://bucket/records", emulator=url)
    assert outcome.code == 2
    assert "access denied" in outcome.err
    assert "roles/storage.objectUser" in outcome.err


def without_credentials(tmp_path: Path, metadata: str) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path),
        "GOOGLE_APPLICATION_CREDENTIALS": "",
        "GCE_METADATA_HOST": metadata,
    }


PROGRAM = """
import sys, preprocessing.storage.connections as connections
connections.GOOGLE = sys.argv[1]
connections._connect.cache_clear()
import gcsfs.core
gcsfs.core._location = lambda *_: sys.argv[1]
from pipeline.cli.entry_point import main
sys.exit(main(["inspect", "gs://bucket/records"]))
"""


def test_without_credentials_and_with_a_silent_metadata_server(tmp_path: Path) -> None:
    environment = {**os.environ, "STORAGE_EMULATOR_HOST": ""}
    started = time.monotonic()
    with silent_server() as metadata, storage_that_denies(401) as url:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, url],
            env={**environment, **without_credentials(tmp_path, metadata)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert time.monotonic() - started < MOST_SECONDS
    assert done.returncode == 2
    assert done.stderr == (
        "mobilenet: gs://bucket/records/dataset.json: this machine has no credentials, and the "
        "bucket is not public; run `gcloud auth application-default login`, or set "
        "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account\n"
    )


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"type": "authorized_user"}'])
def test_credentials_that_are_no_credentials_are_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key.json"
    file.write_text(content)
    with storage_that_denies(401) as url:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, url],
            env={
                **os.environ,
                "STORAGE_EMULATOR_HOST": "",
                "GOOGLE_APPLICATION_CREDENTIALS": str(file),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"mobilenet: the credentials in {file} are not accepted (")
    assert len(done.stderr.splitlines()) == 1


def test_a_bucket_that_does_not_exist_is_no_traceback(emulator: Emulator) -> None:
    with pytest.raises((UsageError, FileNotFoundError)):
        storage.write_bytes("gs://no-such-bucket/file", b"content")
    outcome = quickly("inspect", "gs://no-such-bucket/records")
    assert outcome.code == 2
