"""The gateway to a cluster: the operations on its objects that this project needs.

TFJobs go through the Kubeflow SDK's client, everything else through the Kubernetes client below
it. Objects are plain dictionaries. Every failure is one of `refusals`, or RetryError.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.cluster.api import refusals
from pipeline.cluster.api.requests import Requests
from pipeline.cluster.backends import registry
from preprocessing import storage
from preprocessing.errors import PermanentError, RetryError, UsageError

Object = dict[str, Any]
T = TypeVar("T")

WATCH_SECONDS = 240  # the server ends a watch after this time; a new one begins
RESOURCES = {  # API paths of kinds that are not jobs; each backend knows the path of its kind
    "ConfigMap": "api/v1/configmaps",
    "CustomResourceDefinition": "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Event": "api/v1/events",
    "LocalQueue": "apis/kueue.x-k8s.io/v1beta2/localqueues",
    "Namespace": "api/v1/namespaces",
    "Node": "api/v1/nodes",
    "PersistentVolumeClaim": "api/v1/persistentvolumeclaims",
    "Pod": "api/v1/pods",
    "PodDisruptionBudget": "apis/policy/v1/poddisruptionbudgets",
    "ResourceQuota": "api/v1/resourcequotas",
    "ServiceAccount": "api/v1/serviceaccounts",
    "WorkloadPriorityClass": "apis/kueue.x-k8s.io/v1beta2/workloadpriorityclasses",
}
CLUSTER_WIDE = {"CustomResourceDefinition", "Namespace", "Node", "WorkloadPriorityClass"}


# What the library raises for a kubeconfig of another form.
_DAMAGE = (OSError, AttributeError, KeyError, RecursionError, TypeError, ValueError)


def resource_path(kind: str) -> str:
    """Return the API path of a kind, without the namespace."""
    backend = registry.find(kind)
    return RESOURCES[kind] if backend is None else backend.resource


def _sdk_model(kind: str) -> str | None:
    """Return the SDK's model class of a kind; None if the SDK does not handle the kind."""
    backend = registry.find(kind)
    return None if backend is None else backend.sdk_model


@functools.cache
def _keys_folder() -> str:
    """Return the folder for the keys of a kubeconfig, which the TLS library reads from files.

    It is in memory and goes with this process; if that is killed, the next one removes it.
    """
    until_exit = contextlib.ExitStack()
    atexit.register(until_exit.close)
    return until_exit.enter_context(storage.temporary_folder("keys", in_memory=True))


class Gateway:
    """One namespace of one cluster."""

    def __init__(self, namespace: str, context: str | None = None) -> None:
        """Read the credentials from `KUBECONFIG`, ~/.kube/config or, in a pod, its account.

        Raises:
            UsageError: There are no credentials.
        """
        self.namespace = namespace
        self._context = context
        self._load()

    def _load(self) -> None:
        import yaml
        from kubeflow.training import TrainingClient
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST") and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(
                    os.environ.get(
                        "KUBECONFIG"
                    ),  # the library itself reads it only once, when imported
                    context=self._context,
                    client_configuration=configuration,
                    temp_file_path=_keys_folder(),
                )
        except (config.ConfigException, yaml.YAMLError, *_DAMAGE) as error:
            raise UsageError(
                f"no cluster: {' '.join(str(error).split())[:200]}; set KUBECONFIG, or on GKE run "
                "gcloud container clusters get-credentials NAME"
            ) from None
        configuration.retries = False  # callers of this class retry
        self.host: str = configuration.host
        self._requests = Requests(configuration)
        self._training = TrainingClient(
            client_configuration=configuration, namespace=self.namespace, job_kind="TFJob"
        )
        # The SDK's own client waits without limit for some calls.
        self._training.custom_api = client.CustomObjectsApi(self._requests.client)
        self._training.core_api = client.CoreV1Api(self._requests.client)

    def reconnect(self) -> None:
        """Read the credentials again, after they expired."""
        self._load()

    # -- objects

    def create(self, doc: Object, *, dry_run: bool = False) -> Object:
        """Create an object in this namespace.

        Args:
            doc: The whole object.
            dry_run: Ask the server to check everything, unknown fields too, and keep nothing.

        Raises:
            NameTakenError: An object of this name exists.
        """
        kind, name = doc["kind"], doc["metadata"]["name"]
        attempted = f"create {kind} {name}"
        if (model := _sdk_model(kind)) and not dry_run:
            job = self._sdk_object(doc, model)
            self._sdk(
                attempted,
                kind,
                lambda: self._training.create_job(job, namespace=self.namespace),
            )
            return self.need(kind, name)
        query = [("fieldValidation", "Strict"), *([("dryRun", "All")] if dry_run else [])]
        return self._requests.call(attempted, "POST", self._path(kind), query=query, body=doc)

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object, or None if no object has this name."""
        try:
            return self.need(kind, name)
        except refusals.MissingError:
            return None

    def need(self, kind: str, name: str) -> Object:
        """Return an object that must exist.

        Raises:
            refusals.MissingError: No object has this name.
        """
        attempted = f"get {kind} {name}"
        if _sdk_model(kind):
            job = self._sdk(
                attempted, kind, lambda: self._training.get_job(name, self.namespace, kind)
            )
            read: Object = self._requests.client.sanitize_for_serialization(job)
            return read
        return self._requests.call(attempted, "GET", f"{self._path(kind)}/{name}")

    def find(self, kind: str, selector: str = "", fields: str = "") -> list[Object]:
        """Return the objects of a kind that a label selector and a field selector choose."""
        listed = self._requests.call(
            f"list {kind}s",
            "GET",
            self._path(kind),
            query=[("labelSelector", selector), ("fieldSelector", fields)],
        )
        return [{"kind": kind, **item} for item in listed["items"]]

    def replace(self, doc: Object) -> Object:
        """Replace an object by a changed copy of it.

        Raises:
            ConflictError: The object changed after it was read.
        """
        kind, name = doc["kind"], doc["metadata"]["name"]
        return self._requests.call(
            f"update {kind} {name}", "PUT", f"{self._path(kind)}/{name}", body=doc
        )

    def suspend(self, kind: str, name: str, suspended: bool) -> None:
        """Suspend or resume a job; a suspended job has no pods."""
        attempted = f"{'suspend' if suspended else 'resume'} {kind} {name}"
        change = registry.of_kind(kind).suspend_patch(suspended)
        if _sdk_model(kind):
            self._sdk(
                attempted,
                kind,
                lambda: self._training.update_job(change, name, self.namespace, kind),
            )
            return
        self._requests.call(
            attempted,
            "PATCH",
            f"{self._path(kind)}/{name}",
            body=change,
            content_type="application/merge-patch+json",
        )

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and those that it owns; do nothing if it does not exist."""
        attempted = f"delete {kind} {name}"
        try:
            if _sdk_model(kind):
                self._sdk(
                    attempted, kind, lambda: self._training.delete_job(name, self.namespace, kind)
                )
            else:
                query = [("propagationPolicy", "Background")]
                self._requests.call(attempted, "DELETE", f"{self._path(kind)}/{name}", query=query)
        except refusals.MissingError:
            return

    def watch(self, kind: str, selector: str, stop: threading.Event) -> Iterator[Object]:
        """Yield every change of the chosen objects as it happens, after their present state.

        The watch ends when the server ends it (after minutes) or `stop` is set.
        """
        query = [
            ("labelSelector", selector),
            ("watch", "true"),
            ("timeoutSeconds", str(WATCH_SECONDS)),
        ]
        for line in self._requests.lines(
            f"watch {kind}s", self._path(kind), query, WATCH_SECONDS + 10
        ):
            if stop.is_set():
                return
            event = json.loads(line)
            if event["type"] == "ERROR":  # mostly a version that is too old; a new watch helps
                return
            changed: Object = event["object"]
            yield changed

    # -- events and logs

    def events(self, name: str) -> list[Object]:
        """Return the events of the object called `name`, oldest first."""
        events = self.find("Event", fields=f"involvedObject.name={name}")
        return sorted(
            events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or ""
        )

    def log_tail(self, pod: str, container: str, lines: int) -> str:
        """Return the last lines of a container's log; empty before the container started."""
        query = [("container", container), ("tailLines", str(lines))]
        path = f"{self._path('Pod')}/{pod}/log"
        try:
            return "\n".join(self._requests.lines(f"read the log of {pod}", path, query))
        except (PermanentError, RetryError):  # not started, gone, or on a node that does not answer
            return ""

    def log_follow(self, pod: str, container: str) -> Iterator[str]:
        """Yield the lines of a container's log, present and future, until the container ends."""
        query = [("container", container), ("follow", "true")]
        path = f"{self._path('Pod')}/{pod}/log"
        yield from self._requests.lines(f"follow the log of {pod}", path, query, read_seconds=None)

    # -- the cluster itself

    def version(self) -> str:
        """Return the version of the API server, for example `v1.36.3`."""
        return str(self._requests.call("ask for the version", "GET", "/version")["gitVersion"])

    def allowed(self, verb: str, kind: str) -> bool:
        """Return whether these credentials may do `verb` to objects of `kind` in this namespace."""
        prefix, *rest = resource_path(kind).split("/")
        group, resource = ("" if prefix == "api" else rest[0]), rest[-1]
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": self.namespace,
                    "verb": verb,
                    "group": group,
                    "resource": resource,
                }
            },
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._requests.call("ask what is allowed", "POST", path, body=review)
        return bool(answer["status"]["allowed"])

    # -- inside

    def _path(self, kind: str) -> str:
        prefix, _, resource = resource_path(kind).rpartition("/")
        if kind in CLUSTER_WIDE:
            return f"/{prefix}/{resource}"
        return f"/{prefix}/namespaces/{self.namespace}/{resource}"

    def _sdk_object(self, doc: Object, model: str) -> Any:
        """Return the SDK's object for a manifest."""
        from kubeflow.training.utils.utils import FakeResponse

        return self._training.api_client.deserialize(FakeResponse(doc), model)

    def _sdk(self, attempted: str, kind: str, call: Callable[[], T]) -> T:
        return self._requests.through_sdk(attempted, self._path(kind), call)
