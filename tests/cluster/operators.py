"""The controllers that the jobs need: Training Operator, JobSet and Kueue.

Installed from what each project ships, except that they run next to the API server instead of in
pods: webhooks are called on loopback, and nobody looks at RBAC of their own.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
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
UNUSED = {  # the large schemas of the Training Operator's other jobs
    f"{kind}s.kubeflow.org"
    for kind in ("jaxjob", "mpijob", "paddlejob", "pytorchjob", "xgboostjob")
}

# Each finds its certificate in a folder of /tmp that cannot be chosen: each gets a /tmp of its own.
PRIVATE_TMP = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /tmp && exec "$@"']


class Operator:
    """A controller with webhooks, whose certificates it manages in a Secret.

    Args:
        plane: The control plane on which it works.
        name: Name of the program.
        kustomization: Folder below the manifests that the project ships.
        namespace: Namespace of the controller.
        service: Service at which its webhooks would be called.
        secret: Secret with its certificates; it renews certificates that do not suit it, and waits
            until they are mounted.
    """

    def __init__(
        self,
        plane: ControlPlane,
        name: str,
        kustomization: str,
        namespace: str,
        service: str,
        secret: str,
    ) -> None:
        self._plane, self._name, self._namespace, self._secret = plane, name, namespace, secret
        self._authority = Authority(f"{name}-ca")
        self._certificate = self._authority.sign(name, dns_names=(f"{service}.{namespace}.svc",))
        self.webhook_port, self.health_port = free_port(), free_port()
        self._tmp = plane.folder / name
        self._certificate.write(self._tmp / "k8s-webhook-server" / "serving-certs", "tls")
        shutil.copy(plane.kubeconfig, self._tmp / "kubeconfig")
        self._kustomization = plane.binaries.manifests(name) / kustomization

    def install(self, api: Api, kubectl: list[str]) -> None:
        """Apply its namespace, Secret, CRDs and webhooks."""
        metadata: Any = {"name": self._namespace}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        path = f"/api/v1/namespaces/{self._namespace}"
        api.apply(namespace, path)
        api.apply(self._secret_object(), f"{path}/secrets/{self._secret}")
        rendered = subprocess.run(
            [*kubectl, "kustomize", str(self._kustomization)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        documents = yaml.load_all(rendered, Loader=yaml.CSafeLoader)  # megabytes of schemas
        wanted = [
            doc
            for doc in documents
            if doc["kind"] in INSTALLED and doc["metadata"]["name"] not in UNUSED
        ]
        for document in wanted:
            self._call_on_loopback(document)
        subprocess.run(
            [*kubectl, "apply", "--server-side", "-f", "-"],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted}),
            check=True,
            capture_output=True,
            text=True,
        )

    def daemon(self, *arguments: str) -> Daemon:
        """Return the program; paths in `arguments` are those inside its namespace."""
        command = [*PRIVATE_TMP, str(self._tmp), *self._plane.binaries.program(self._name)]
        return Daemon(
            self._name,
            [*command, *arguments],
            self._plane.logs,
            {"KUBECONFIG": "/tmp/kubeconfig"},
            health_port=self.health_port,
        )

    def configured(self, **config: Any) -> Daemon:
        """Return the program with a configuration file instead of flags."""
        config |= {
            "kind": "Configuration",
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self.health_port}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"port": self.webhook_port},
            "leaderElection": {"leaderElect": False},
        }
        (self._tmp / "config.yaml").write_text(yaml.safe_dump(config))
        return self.daemon("--config=/tmp/config.yaml")

    def _secret_object(self) -> Any:
        pairs = {"ca": self._authority.pair, "tls": self._certificate}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._secret, "namespace": self._namespace},
            "data": {
                f"{name}.{part}": base64.b64encode(data).decode()
                for name, pair in pairs.items()
                for part, data in (("crt", pair.certificate), ("key", pair.key))
            },
        }

    def _call_on_loopback(self, part: Any) -> None:
        if isinstance(part, list):
            for item in part:
                self._call_on_loopback(item)
        if not isinstance(part, dict):
            return
        if "service" in (client := part.get("clientConfig") or {}):
            path = client.pop("service").get("path", "")
            client["url"] = f"https://127.0.0.1:{self.webhook_port}{path}"
            client["caBundle"] = base64.b64encode(self._authority.pair.certificate).decode()
        for item in part.values():
            self._call_on_loopback(item)


def training_operator(plane: ControlPlane, api: Api, kubectl: list[str]) -> Daemon:
    """Start Kubeflow's Training Operator with its validating webhooks."""
    operator = Operator(
        plane,
        "training-operator",
        "base",
        namespace="kubeflow",
        service="training-operator",
        secret="training-operator-webhook-cert",
    )
    operator.install(api, kubectl)
    return operator.daemon(
        "--metrics-bind-address=0",
        f"--health-probe-bind-address=127.0.0.1:{operator.health_port}",
        f"--webhook-server-port={operator.webhook_port}",
        "--enable-scheme=tfjob",
    )


def jobset(plane: ControlPlane, api: Api, kubectl: list[str]) -> Daemon:
    """Start the JobSet controller."""
    operator = Operator(
        plane,
        "jobset",
        "default",
        namespace="jobset-system",
        service="jobset-webhook-service",
        secret="jobset-webhook-server-cert",
    )
    operator.install(api, kubectl)
    return operator.configured(apiVersion="config.jobset.x-k8s.io/v1alpha1")


def kueue(plane: ControlPlane, api: Api, kubectl: list[str]) -> Daemon:
    """Start Kueue, which manages TFJobs, JobSets and Jobs."""
    operator = Operator(
        plane,
        "kueue",
        "default",
        namespace="kueue-system",
        service="kueue-webhook-service",
        secret="kueue-webhook-server-cert",
    )
    operator.install(api, kubectl)
    return operator.configured(
        apiVersion="config.kueue.x-k8s.io/v1beta2",
        namespace="kueue-system",
        integrations={"frameworks": ["batch/job", "kubeflow.org/tfjob", "jobset.x-k8s.io/jobset"]},
        featureGates={"VisibilityOnDemand": False},
    )
