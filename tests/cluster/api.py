"""The Kubernetes API as JSON: requests, and a live copy of what a path lists."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

Object = dict[str, Any]
RETRY_SECONDS = 0.3
WATCH_SECONDS = 300


class ApiError(Exception):
    """The API server refused.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Requests with the credentials of a kubeconfig, of whatever kind, renewed as they expire.

    Args:
        kubeconfig: Its current context counts. Beside it the client library puts its parts.

    Raises:
        config.ConfigException: It is none.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._configuration = client.Configuration()
        self._configuration.retries = False
        config.load_kube_config(
            str(kubeconfig),
            client_configuration=self._configuration,
            temp_file_path=str(kubeconfig.parent),
        )
        self.server: str = self._configuration.host
        self._pool = client.rest.RESTClientObject(self._configuration, maxsize=32).pool_manager

    def get(self, path: str) -> Object:
        """Read an object or a list."""
        return self._request("GET", path)

    def create(self, path: str, body: Object) -> Object:
        """Add an object to a collection; unknown fields are refused."""
        return self._request("POST", f"{path}?fieldValidation=Strict", body)

    def patch(self, path: str, body: Object, kind: str = "strategic-merge") -> Object:
        """Change an object; `kind` is strategic-merge, merge or apply."""
        content = f"application/{kind}-patch+{'yaml' if kind == 'apply' else 'json'}"
        return self._request("PATCH", path, body, content)

    def apply(self, body: Object, path: str) -> Object:
        """Server-side apply."""
        return self.patch(f"{path}?fieldManager=tests&force=true", body, "apply")

    def delete(self, path: str, body: Object | None = None) -> None:
        """Delete an object; it may be gone already."""
        try:
            self._request("DELETE", path, body)
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or another of the same name
                raise

    def persistently(self, call: Callable[[], Any]) -> None:
        """Repeat `call` until the API server is there; a refusal of an outdated change is final."""
        while True:
            try:
                call()
                return
            except ApiError as error:
                if error.status in (404, 409, 422):
                    return
            except (urllib3.exceptions.HTTPError, OSError):
                pass
            time.sleep(RETRY_SECONDS)

    def text(self, path: str) -> str:
        """Read what is no JSON, such as a log."""
        url = self.server + path
        response = self._pool.request("GET", url, headers=self._credentials(), timeout=30)
        if response.status >= 400:
            raise ApiError(response.status, response.data.decode(errors="replace"))
        return response.data.decode(errors="replace")

    def watch(self, path: str, version: str) -> Any:
        """Stream of changes since `version`, each {type, object}."""
        separator = "&" if "?" in path else "?"
        url = f"{self.server}{path}{separator}watch=true&resourceVersion={version}"
        timeout = urllib3.Timeout(connect=5, read=WATCH_SECONDS)
        response = self._pool.request(
            "GET",
            f"{url}&timeoutSeconds={WATCH_SECONDS}",
            headers=self._credentials(),
            timeout=timeout,
            preload_content=False,
        )
        rest = b""
        with contextlib.closing(response):
            while chunk := response.read1():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines)

    def _credentials(self) -> dict[str, str]:
        parts = self._configuration.auth_settings().values()
        return {part["key"]: part["value"] for part in parts}

    def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        response = self._pool.request(
            method,
            self.server + path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": content, **self._credentials()},
            timeout=30,
        )
        if response.status >= 400:
            try:
                message = json.loads(response.data)["message"]
            except (ValueError, KeyError):
                message = response.data.decode(errors="replace")
            raise ApiError(response.status, message)
        parsed: Object = json.loads(response.data)
        return parsed


class Informer:
    """A live copy of the objects that `path` lists, kept up by a thread of its own.

    Args:
        api: Where to read.
        path: A collection, all namespaces.
        changed: Called with each object added, modified or (second argument) deleted.
    """

    def __init__(
        self, api: Api, path: str, changed: Callable[[Object, bool], None] = lambda *_: None
    ) -> None:
        self.objects: dict[str, Object] = {}
        self._api, self._path, self._changed = api, path, changed
        self._listed = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._listed.wait()

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except (ApiError, urllib3.exceptions.HTTPError, OSError, ValueError):
                time.sleep(
                    RETRY_SECONDS
                )  # the server is away, or the version is too old: list again

    def _follow(self) -> None:
        listed = self._api.get(self._path)
        current = {item["metadata"]["uid"]: item for item in listed["items"] or []}
        for uid in set(self.objects) - set(current):
            self._changed(self.objects.pop(uid), True)
        for item in current.values():
            self._see(item)
        self._listed.set()
        for event in self._api.watch(self._path, listed["metadata"]["resourceVersion"]):
            if event["type"] == "ERROR":
                return
            if event["type"] == "DELETED":
                self.objects.pop(event["object"]["metadata"]["uid"], None)
                self._changed(event["object"], True)
            else:
                self._see(event["object"])

    def _see(self, item: Object) -> None:
        self.objects[item["metadata"]["uid"]] = item
        self._changed(item, False)
