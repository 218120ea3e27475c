"""etcd, the API server, the controller manager and the scheduler, on loopback ports.

Programs that are started here end with the process that started them, even if it is killed.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from tests.cluster.binaries import Binaries
from tests.cluster.certificates import Authority, Pair

START_SECONDS = 120.0  # a bound for a loaded machine; a few seconds on a quiet one


POD_GATEWAY = "10.244.0.1"  # where pods of the tests' nodes find the API server
API_SERVICE = "10.96.0.1"  # where a kubelet tells them to look for it


class Daemon:
    """A program that runs until it is stopped, with its output in a file.

    Args:
        name: Name of its log, `LOGS/NAME.log`.
        command: The command line.
        logs: Folder of the logs.
        environment: Variables in addition to this process's.
        health_port: Port at which it answers `/readyz`; None if it does not.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        logs: Path,
        environment: dict[str, str] | None = None,
        health_port: int | None = None,
    ) -> None:
        self.name, self.log = name, logs / f"{name}.log"
        self._command, self._health_port = command, health_port
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program, or start it again."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: what stops first matters
                preexec_fn=die_with_parent,
            )

    def stop(self) -> None:
        """Ask the program to end, and kill it if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the program."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait_until_ready(self) -> None:
        """Wait for `/readyz` of the program."""
        if self._health_port is not None:
            self.wait_until(self._says_ready)

    def _says_ready(self) -> bool:
        url = f"http://127.0.0.1:{self._health_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait for `ready()`; the end of the log explains a failure."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self.name} {'ended' if ended else 'is not ready'}:\n{tail}")
            time.sleep(0.1)


class ControlPlane:
    """A Kubernetes API with its controllers.

    Attributes:
        kubeconfig: Path of an administrator's kubeconfig.
        api_server: The API server, which tests stop and start.
        authority: The authority that everything here trusts.
    """

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        self.binaries, self.folder = binaries, folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.authority = Authority("test-cluster-ca")
        self.port = free_port()
        self.kubeconfig = folder / "admin.kubeconfig"
        self._write_kubeconfig(self.authority.sign("admin", group="system:masters"))
        self._etcd = self._start_etcd()
        self.api_server = self._api_server()

    @contextlib.contextmanager
    def running(self) -> Iterator[ControlPlane]:
        """Start everything; stop everything."""
        daemons = [self._etcd, self.api_server, *self._controllers()]
        try:
            self._etcd.start()
            self.api_server.start()
            self.wait_for_api()
            for daemon in daemons[2:]:
                daemon.start()
            yield self
        finally:
            for daemon in reversed(daemons):
                daemon.stop()

    def wait_for_api(self) -> None:
        """Return when the API server says that it is ready."""
        self.api_server.wait_until(self._api_is_ready)

    def _start_etcd(self) -> Daemon:
        client, peer = free_port(), free_port()
        self._etcd_url = f"http://127.0.0.1:{client}"
        command = [
            *self.binaries.program("etcd"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        return Daemon("etcd", command, self.logs)

    def _api_server(self) -> Daemon:
        keys = self.folder / "keys"
        authority, _ = self.authority.pair.write(keys, "ca")
        certificate, key = self.authority.sign(
            "kube-apiserver", addresses=(POD_GATEWAY, API_SERVICE)
        ).write(keys, "server")
        _, tokens = self.authority.sign("tokens").write(keys, "tokens")
        kubelet_certificate, kubelet_key = self.authority.sign(
            "kube-apiserver", group="system:masters"
        ).write(keys, "kubelet-client")
        command = [
            *self.binaries.program("kube-apiserver"),
            f"--etcd-servers={self._etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={authority}",
            f"--kubelet-certificate-authority={authority}",
            f"--kubelet-client-certificate={kubelet_certificate}",
            f"--kubelet-client-key={kubelet_key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={tokens}",
            f"--service-account-signing-key-file={tokens}",
            "--enable-admission-plugins=ExtendedResourceToleration",  # as on GKE
        ]
        return Daemon("kube-apiserver", command, self.logs)

    def _controllers(self) -> list[Daemon]:
        keys = self.folder / "keys"
        common = [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        manager = [
            *self.binaries.program("kube-controller-manager"),
            *common,
            f"--service-account-private-key-file={keys / 'tokens.key'}",
            f"--root-ca-file={keys / 'ca.crt'}",
        ]
        scheduler = [*self.binaries.program("kube-scheduler"), *common]
        return [
            Daemon("kube-controller-manager", manager, self.logs),
            Daemon("kube-scheduler", scheduler, self.logs),
        ]

    def _write_kubeconfig(self, admin: Pair) -> None:
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority-data": _base64(self.authority.pair.certificate),
        }
        user = {
            "client-certificate-data": _base64(admin.certificate),
            "client-key-data": _base64(admin.key),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def _api_is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.folder / "keys" / "ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def die_with_parent() -> None:
    """Ask, in a child before exec, to be killed when the parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
