"""A Kubernetes API server in memory: objects, label selectors, conflicts, watches and logs.

It has no schemas and no controllers, and its admission is a test's function; tests that need the
real ones are in tests/cluster. Here tests see which requests are made, and the effect of answers
that a real server gives rarely.
"""

from __future__ import annotations

import itertools
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]


class FakeApi:
    """The state of the server: objects by path."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.logs: dict[str, str] = {}  # by pod
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.failures: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self.admission: Callable[[str, Object], tuple[int, str] | None] = lambda path, doc: None
        self.missing_groups: set[str] = set()
        self.silent = False  # takes requests and never answers
        self.changed = threading.Condition()
        self.versions = itertools.count(1)
        self.url = ""

    def put(self, path: str, doc: Object) -> Object:
        """Store an object as a controller would."""
        doc.setdefault("metadata", {})["resourceVersion"] = str(next(self.versions))
        doc["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        doc["metadata"].setdefault("uid", f"uid-{next(self.versions)}")
        with self.changed:
            self.objects[path] = doc
            self.changed.notify_all()
        return doc

    def under(self, kind_path: str, query: dict[str, str]) -> list[Object]:
        """Return all objects of a collection that the selectors choose."""
        found = [
            doc
            for path, doc in sorted(self.objects.items())
            if path.rpartition("/")[0] == kind_path
            and _selected(doc, query.get("labelSelector", ""))
        ]
        if field := query.get("fieldSelector"):
            name = field.partition("=")[2]
            found = [event for event in found if event["involvedObject"]["name"] == name]
        return found


def _selected(doc: Object, selector: str) -> bool:
    labels = doc["metadata"].get("labels", {})
    for term in filter(None, selector.split(",")):
        key, equals, value = term.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def merge(doc: Any, change: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(change, dict) or not isinstance(doc, dict):
        return change
    merged = {**doc, **{key: merge(doc.get(key), value) for key, value in change.items()}}
    return {key: value for key, value in merged.items() if value is not None}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    api: FakeApi

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def _answer(self, status: int, body: Any) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, reason: str, message: str) -> None:
        self._answer(status, {"kind": "Status", "reason": reason, "message": message})

    def _handle(self) -> None:
        split = urlsplit(self.path)
        path, query = split.path, {key: values[0] for key, values in parse_qs(split.query).items()}
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        self.api.requests.append((self.command, path, query))
        if self.api.silent:
            threading.Event().wait(30)
            return
        if not self.api.failures.empty():
            status, text = self.api.failures.get()
            if status:
                return self._answer(status, text)
            self.close_connection = True  # no answer at all
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        if any(f"/{group}/" in path for group in self.api.missing_groups):
            return self._answer(404, "404 page not found\n")
        getattr(self, f"_{self.command.lower()}")(path, query, body)
        return None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _get(self, path: str, query: dict[str, str], body: Any) -> None:
        if path == "/version":
            return self._answer(200, {"gitVersion": "v1.36.3"})
        if path.endswith("/log"):
            pod = path.split("/")[-2]
            return self._answer(200, self.api.logs.get(pod, ""))
        if query.get("watch"):
            return self._watch(path, query)
        if path in self.api.objects:
            return self._answer(200, self.api.objects[path])
        if path.rpartition("/")[2].endswith("s") and "-" not in path.rpartition("/")[2]:
            return self._answer(200, {"items": self.api.under(path, query)})
        return self._refuse(404, "NotFound", f"{path} not found")

    def _watch(self, path: str, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seen = ""
        try:
            while not self.api.silent:
                with self.api.changed:
                    found = self.api.under(path, query)
                    versions = json.dumps([item["metadata"]["resourceVersion"] for item in found])
                    if versions == seen:
                        self.api.changed.wait(0.2)
                        continue
                seen = versions
                for doc in found:
                    line = json.dumps({"type": "MODIFIED", "object": doc}).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        except OSError:
            return

    def _post(self, path: str, query: dict[str, str], body: Any) -> None:
        if path.endswith("/selfsubjectaccessreviews"):
            return self._answer(201, {**body, "status": {"allowed": True}})
        full = f"{path}/{body['metadata']['name']}"
        if refusal := self.api.admission(path, body):
            return self._refuse(refusal[0], "", refusal[1])
        if full in self.api.objects:
            return self._refuse(409, "AlreadyExists", f"{full} already exists")
        if query.get("dryRun"):
            return self._answer(201, body)
        return self._answer(201, self.api.put(full, body))

    def _put(self, path: str, query: dict[str, str], body: Any) -> None:
        stored = self.api.objects[path]["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion") != stored:
            return self._refuse(409, "Conflict", "the object has been modified")
        return self._answer(200, self.api.put(path, body))

    def _patch(self, path: str, query: dict[str, str], body: Any) -> None:
        if path not in self.api.objects:
            return self._refuse(404, "NotFound", f"{path} not found")
        return self._answer(200, self.api.put(path, merge(self.api.objects[path], body)))

    def _delete(self, path: str, query: dict[str, str], body: Any) -> None:
        if self.api.objects.pop(path, None) is None:
            return self._refuse(404, "NotFound", f"{path} not found")
        return self._answer(200, {"kind": "Status", "status": "Success"})


@contextmanager
def serving(kubeconfig: Path) -> Iterator[FakeApi]:
    """Provide a running server, and a kubeconfig that names it."""
    api = FakeApi()
    handler = type("ApiHandler", (Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": api.url}}],
                "users": [{"name": "me", "user": {"token": "t"}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
                "current-context": "fake",
            }
        )
    )
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
