"""A real object store on this machine, behind a network that fails as real ones do.

The store is fake-gcs-server, built once from the Go module proxy into the user's cache. gcsfs and
the Google clients find it by `STORAGE_EMULATOR_HOST`. TensorFlow's own filesystem knows no other
hosts than Google's; it finds the store by a proxy that answers for them.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests import google_hosts
from tests.built_once import CACHE, built_once
from tests.toolchain import ROOT, run_go

MODULE = "github.com/fsouza/fake-gcs-server"
VERSION = "v1.56.1"
FAULTS = ("429", "503", "reset before", "reset after", "cut")
BATCH_PATH = "/batch/storage/v1"  # to which gcsfs sends deletions only if the host is Google's
START_SECONDS = 30.0


@dataclass(frozen=True)
class Emulator:
    """A running store with one empty bucket.

    Attributes:
        url: `http://127.0.0.1:PORT`, for `STORAGE_EMULATOR_HOST` of a child process.
        bucket: `gs://NAME`.
        faults: How often each of `FAULTS` was injected so far.
        requests: Every request so far: its method and path.
        tokens: Every access token that came with a request so far.
    """

    url: str
    bucket: str
    faults: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    @property
    def port(self) -> int:
        """The port of `url`."""
        return int(self.url.rsplit(":", 1)[1])

    @property
    def clients_environment(self) -> dict[str, str]:
        """The variables by which gcsfs and Google's clients find the store; TensorFlow does not."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "NO_GCE_CHECK": "true",  # nobody here has credentials
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which every library of a process finds the store."""
        return {
            **self.clients_environment,
            "https_proxy": self.url,
            "CURL_CA_BUNDLE": str(google_hosts.certificate()),
            "no_proxy": "127.0.0.1",  # gRPC between workers would use it too
        }


def server_binary() -> Path:
    """Build fake-gcs-server unless this user has it."""
    return built_once(CACHE / f"fake-gcs-server-{VERSION}" / "fake-gcs-server", _build)


def _build(binary: Path) -> None:
    run_go("install", f"{MODULE}@{VERSION}", module=ROOT, GOBIN=str(binary.parent))


@contextlib.contextmanager
def running_emulator(fault_rate: float = 0.0, seed: int = 0) -> Iterator[Emulator]:
    """Run the store in memory; `fault_rate` of the requests to it go wrong."""
    backend_port, public_port = _free_port(), _free_port()
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    emulator = Emulator(f"http://127.0.0.1:{public_port}", f"gs://{name}")
    server = subprocess.Popen(
        [
            str(server_binary()),
            "-backend=memory",
            "-scheme=http",
            "-host=127.0.0.1",
            f"-port={backend_port}",
            f"-public-host=127.0.0.1:{public_port}",
            f"-external-url={emulator.url}",
            "-log-level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    proxy = _Proxy(emulator, backend_port, fault_rate, random.Random(seed))
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        backend = f"http://127.0.0.1:{backend_port}"
        _wait_until_up(backend, server)
        request = urllib.request.Request(
            f"{backend}/storage/v1/b",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()
        yield emulator
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.kill()
        server.wait()


@contextlib.contextmanager
def in_environment(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, *, tensorflow: bool = True
) -> Iterator[Emulator]:
    """Let this process find the store while the block runs.

    Args:
        emulator: Running.
        monkeypatch: Takes the variables back.
        tensorflow: Whether TensorFlow finds it, too, by a proxy for everything that uses TLS.
    """
    variables = emulator.environment if tensorflow else emulator.clients_environment
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    filesystem = fsspec.get_filesystem_class("gs")
    filesystem.clear_instance_cache()  # an instance remembers the address it was made with
    try:
        yield emulator
    finally:
        filesystem.clear_instance_cache()


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Provide a store that works."""
    with running_emulator() as running, in_environment(running, monkeypatch):
        yield running


@pytest.fixture
def flaky_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Provide a store where one request in sixteen fails, some after they took effect."""
    with running_emulator(fault_rate=0.06) as running, in_environment(running, monkeypatch):
        yield running


class _Proxy(http.server.ThreadingHTTPServer):
    """A proxy that forwards to the store, or fails in one of the `FAULTS` ways."""

    daemon_threads = True

    def __init__(
        self, emulator: Emulator, backend_port: int, fault_rate: float, rng: random.Random
    ) -> None:
        super().__init__(("127.0.0.1", emulator.port), _Handler)
        self.emulator, self.backend_port, self.fault_rate = emulator, backend_port, fault_rate
        self._rng, self._lock = rng, threading.Lock()

    def next_fault(self) -> str:
        """Return one of `FAULTS`, or an empty string when this request shall succeed."""
        with self._lock:
            if self._rng.random() >= self.fault_rate:
                return ""
            fault = self._rng.choice(FAULTS)
            self.emulator.faults[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing, because a reset connection is intended."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def do_CONNECT(self) -> None:
        """Answer for one of Google's hosts on this connection from now on."""
        self.send_response_only(200)
        self.end_headers()
        self.connection = google_hosts.server_context().wrap_socket(
            self.connection, server_side=True
        )
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", -1)
        self.close_connection = False

    def _forward(self) -> None:
        self.server.emulator.requests.append((self.command, self.path))
        if token := self.headers.get("Authorization", "").removeprefix("Bearer "):
            self.server.emulator.tokens.add(token)
        fault = self.server.next_fault()
        body = self._read_body()
        if self.path == BATCH_PATH:
            body = _as_go_reads_it(body, f"127.0.0.1:{self.server.emulator.port}")
        if fault in ("429", "503"):
            self._answer(int(fault), [], b'{"error": {"message": "injected"}}')
            return
        if fault == "reset before":
            self._reset()
            return
        backend = http.client.HTTPConnection("127.0.0.1", self.server.backend_port, timeout=60)
        skipped = ("transfer-encoding", "content-length", "connection")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in skipped}
        headers["Host"] = f"127.0.0.1:{self.server.server_port}"
        backend.request(self.command, self.path, body, headers)
        response = backend.getresponse()
        content = response.read()
        if self.path == BATCH_PATH:  # gcsfs looks for Google's wording
            content = content.replace(b'"message":"Not Found"', b'"message":"No such object"')
        if fault == "reset after":
            self._reset()
            return
        own = self.server.emulator.url
        kept = [
            (k, v.replace(own, self._address()) if k.lower() == "location" else v)
            for k, v in response.getheaders()
            if k.lower() not in skipped
        ]
        backend.close()
        if fault == "cut":
            self._answer(response.status, kept, content, cut=True)
            self._reset()
            return
        self._answer(response.status, kept, content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _forward  # noqa: N815

    def _address(self) -> str:
        """Return where the client believes that it is: an upload goes on there."""
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        return f"{scheme}://{self.headers['Host']}"

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def _reset(self) -> None:
        """End the connection by RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _as_go_reads_it(batch: bytes, host: str) -> bytes:
    """Return a batch of deletions as fake-gcs-server needs it, which is stricter than Google.

    gcsfs ends lines by LF only, and each request without an empty line and without a host.
    """
    lines = batch.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    end = b"content-length: 0\r\n"
    return lines.replace(end, b"host: " + host.encode() + b"\r\n" + end + b"\r\n")


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b", timeout=5).close()
            return
        except OSError:
            assert server.poll() is None, "fake-gcs-server ended at once"
            assert time.monotonic() < deadline, "fake-gcs-server does not answer"
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port
