"""The controllers that our jobs need: Training Operator, JobSet, Kueue, and kwok's fake nodes.

Installed from what each project ships, except that they run beside the API server instead of in
pods: webhooks are called on loopback, and nobody looks at RBAC of their own.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.api import Api
from tests.cluster.certificates import Authority
from tests.cluster.control_plane import ControlPlane, Daemon, free_port

INSTALLED = (
    "Namespace",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)
STAGES = Path(__file__).parent / "stages.yaml"
FAKE = "kwok.x-k8s.io/node=fake"

# Each finds its certificate in a folder of /tmp that cannot be chosen: each gets a /tmp of its own.
PRIVATE_TMP = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /tmp && exec "$@"']


class Operator:
    """A controller with webhooks.

    Args:
        plane: Where it works.
        name: Of the program.
        kustomization: Below the manifests that the project ships.
        authority: Name of the one that signs its certificate.
        dns_names: What the certificate must be for.
    """

    def __init__(
        self,
        plane: ControlPlane,
        name: str,
        kustomization: str,
        authority: str,
        dns_names: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.authority = Authority(authority)
        self.certificate = self.authority.sign(name, dns_names=dns_names)
        self.webhook_port, self.health_port = free_port(), free_port()
        self.tmp = plane.folder / name
        self.certificate.write(self.tmp / "k8s-webhook-server" / "serving-certs", "tls")
        shutil.copy(plane.kubeconfig, self.tmp / "kubeconfig")
        self._plane = plane
        self._kustomization = plane.binaries.manifests(name) / kustomization

    def install(self, kubectl: list[str]) -> None:
        """Apply its namespaces, CRDs and webhooks."""
        rendered = subprocess.run(
            [*kubectl, "kustomize", str(self._kustomization)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        wanted = [doc for doc in yaml.safe_load_all(rendered) if doc["kind"] in INSTALLED]
        for document in wanted:
            self._call_on_loopback(document)
        subprocess.run(
            [*kubectl, "apply", "--server-side", "-f", "-"],
            input=yaml.safe_dump_all(wanted),
            check=True,
            capture_output=True,
            text=True,
        )

    def daemon(self, *arguments: str) -> Daemon:
        """The program; paths in `arguments` are as it sees them."""
        command = [*PRIVATE_TMP, str(self.tmp), *self._plane.binaries.program(self.name)]
        environment = {"KUBECONFIG": "/tmp/kubeconfig"}
        return Daemon(self.name, [*command, *arguments], self._plane.logs, environment)

    def configure(self, **config: Any) -> None:
        """Write the program's configuration file, `/tmp/config.yaml` for it."""
        config |= {
            "kind": "Configuration",
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self.health_port}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"port": self.webhook_port},
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
        }
        (self.tmp / "config.yaml").write_text(yaml.safe_dump(config))

    def _call_on_loopback(self, part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                self._call_on_loopback(each)
        if not isinstance(part, dict):
            return
        if "service" in (client := part.get("clientConfig") or {}):
            path = client.pop("service").get("path", "")
            client["url"] = f"https://127.0.0.1:{self.webhook_port}{path}"
            client["caBundle"] = base64.b64encode(self.authority.pair.certificate).decode()
        for each in part.values():
            self._call_on_loopback(each)


def training_operator(plane: ControlPlane, api: Api, kubectl: list[str]) -> Daemon:
    """Kubeflow's Training Operator with its validating webhooks."""
    operator = Operator(
        plane,
        "training-operator",
        "base",
        authority="training-operator-ca",
        dns_names=("training-operator.kubeflow.svc",),
    )
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubeflow"}}
    api.apply(namespace, "/api/v1/namespaces/kubeflow")
    pairs = {"ca": operator.authority.pair, "tls": operator.certificate}
    secret = {  # it renews certificates that it does not like, and waits for them to be mounted
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "training-operator-webhook-cert", "namespace": "kubeflow"},
        "data": {
            f"{name}.{part}": base64.b64encode(data).decode()
            for name, pair in pairs.items()
            for part, data in (("crt", pair.certificate), ("key", pair.key))
        },
    }
    api.apply(secret, "/api/v1/namespaces/kubeflow/secrets/training-operator-webhook-cert")
    operator.install(kubectl)
    return operator.daemon(
        "--metrics-bind-address=0",
        f"--health-probe-bind-address=127.0.0.1:{operator.health_port}",
        f"--webhook-server-port={operator.webhook_port}",
    )


def jobset(plane: ControlPlane, kubectl: list[str]) -> Daemon:
    """The JobSet controller."""
    operator = Operator(plane, "jobset", "default", authority="jobset-ca")
    operator.configure(apiVersion="config.jobset.x-k8s.io/v1alpha1")
    operator.install(kubectl)
    return operator.daemon("--config=/tmp/config.yaml")


def kueue(plane: ControlPlane, kubectl: list[str]) -> Daemon:
    """Kueue, with TFJobs, JobSets and Jobs under its rule."""
    operator = Operator(plane, "kueue", "default", authority="kueue-ca")
    operator.configure(
        apiVersion="config.kueue.x-k8s.io/v1beta2",
        namespace="kueue-system",
        integrations={"frameworks": ["batch/job", "kubeflow.org/tfjob", "jobset.x-k8s.io/jobset"]},
        featureGates={"VisibilityOnDemand": False},
    )
    operator.install(kubectl)
    return operator.daemon("--config=/tmp/config.yaml")


def kwok(plane: ControlPlane) -> Daemon:
    """Plays the nodes with annotation `kwok.x-k8s.io/node: fake` and the pods bound to them."""
    shipped = plane.binaries.manifests("kwok") / "stage"
    stages = [
        *sorted((shipped / "node" / "fast").glob("node-*.yaml")),
        *sorted((shipped / "node" / "heartbeat-with-lease").glob("node-*.yaml")),
        shipped / "pod" / "fast" / "pod-ready.yaml",
        shipped / "pod" / "fast" / "pod-delete.yaml",
        shipped / "pod" / "chaos" / "pod-container-running-failed.yaml",
        STAGES,
    ]
    config = plane.folder / "kwok.yaml"
    config.write_text("\n---\n".join(path.read_text() for path in stages))
    command = [
        *plane.binaries.program("kwok"),
        f"--kubeconfig={plane.kubeconfig}",
        f"--config={config}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={FAKE}",
        "--node-ip=127.0.0.1",
        "--cidr=10.0.0.0/16",
        f"--server-address=127.0.0.1:{free_port()}",
    ]
    return Daemon("kwok", command, plane.logs)
