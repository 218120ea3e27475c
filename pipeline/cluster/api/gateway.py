"""The cluster, typed: the only module that talks to Kubernetes.

TFJobs go through the Kubeflow SDK's client, everything else through the Kubernetes client
below it. Objects are plain dictionaries. Every failure is one of `refusals`, or RetryError.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.cluster.api import refusals
from pipeline.cluster.backends import registry
from preprocessing.errors import PermanentError, RetryError, UsageError

Object = dict[str, Any]
T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
WATCH_SECONDS = 240  # the server ends a watch then; a new one begins
RESOURCES = {  # API paths of kinds that are not jobs; a backend knows its own
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
}
CLUSTER_WIDE = {"CustomResourceDefinition", "Namespace", "Node"}


def resource_path(kind: str) -> str:
    """Return the API path of a kind, without the namespace."""
    backend = registry.find(kind)
    return RESOURCES[kind] if backend is None else backend.resource


def _sdk_model(kind: str) -> str | None:
    """Return the SDK's model class of a kind; None if the SDK does not handle the kind."""
    backend = registry.find(kind)
    return None if backend is None else backend.sdk_model


class Gateway:
    """One namespace of one cluster."""

    def __init__(self, namespace: str, context: str | None = None) -> None:
        """Read the credentials: `KUBECONFIG`, ~/.kube/config, or those of the pod this is.

        Raises:
            UsageError: There are none.
        """
        self.namespace = namespace
        self._context = context
        self._load()

    def _load(self) -> None:
        from kubeflow.training import TrainingClient
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST") and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(
                    os.environ.get("KUBECONFIG"),  # which the library reads once, when imported
                    context=self._context,
                    client_configuration=configuration,
                )
        except (config.ConfigException, OSError) as error:
            raise UsageError(
                f"no cluster: {str(error).splitlines()[0]}; set KUBECONFIG, or on GKE run "
                "gcloud container clusters get-credentials NAME"
            ) from None
        configuration.retries = False  # ours are above
        self.host: str = configuration.host
        self._client = _WithTimeouts(configuration)
        self._training = TrainingClient(
            client_configuration=configuration, namespace=self.namespace, job_kind="TFJob"
        )
        # Its own client waits without end for some calls.
        self._training.custom_api = client.CustomObjectsApi(self._client.api)
        self._training.core_api = client.CoreV1Api(self._client.api)

    def reconnect(self) -> None:
        """Read the credentials anew, after they expired."""
        self._load()

    # -- objects

    def create(self, doc: Object, *, dry_run: bool = False) -> Object:
        """Create an object; its namespace is this one.

        Args:
            doc: The whole object.
            dry_run: Ask the server to check everything, unknown fields too, and keep nothing.

        Raises:
            NameTakenError: It is there already.
        """
        kind, name = doc["kind"], doc["metadata"]["name"]
        doing = f"create {kind} {name}"
        if (model := _sdk_model(kind)) and not dry_run:
            job = self._sdk_object(doc, model)
            self._sdk(
                doing,
                kind,
                lambda: self._training.create_job(job, namespace=self.namespace),
            )
            return self.need(kind, name)
        query = [("fieldValidation", "Strict"), *([("dryRun", "All")] if dry_run else [])]
        return self._call(doing, "POST", self._path(kind), query, doc)

    def get(self, kind: str, name: str) -> Object | None:
        """An object, or None if there is none of this name."""
        try:
            return self.need(kind, name)
        except refusals.MissingError:
            return None

    def need(self, kind: str, name: str) -> Object:
        """An object that must be there.

        Raises:
            refusals.MissingError: It is not.
        """
        doing = f"get {kind} {name}"
        if _sdk_model(kind):
            job = self._sdk(doing, kind, lambda: self._training.get_job(name, self.namespace, kind))
            found: Object = self._client.api.sanitize_for_serialization(job)
            return found
        return self._call(doing, "GET", f"{self._path(kind)}/{name}")

    def find(self, kind: str, selector: str = "", fields: str = "") -> list[Object]:
        """All objects of a kind that a label selector and a field selector choose."""
        found = self._call(
            f"list {kind}s",
            "GET",
            self._path(kind),
            [("labelSelector", selector), ("fieldSelector", fields)],
        )
        return [{"kind": kind, **each} for each in found["items"]]

    def replace(self, doc: Object) -> Object:
        """Write a whole object back.

        Raises:
            ConflictError: It changed since it was read.
        """
        kind, name = doc["kind"], doc["metadata"]["name"]
        return self._call(f"update {kind} {name}", "PUT", f"{self._path(kind)}/{name}", body=doc)

    def suspend(self, kind: str, name: str, suspended: bool) -> None:
        """Suspend or resume a job; a suspended one has no pods."""
        doing = f"{'suspend' if suspended else 'resume'} {kind} {name}"
        change = registry.of_kind(kind).suspend_patch(suspended)
        if _sdk_model(kind):
            self._sdk(
                doing,
                kind,
                lambda: self._training.update_job(change, name, self.namespace, kind),
            )
            return
        self._call(
            doing,
            "PATCH",
            f"{self._path(kind)}/{name}",
            body=change,
            content_type="application/merge-patch+json",
        )

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and what belongs to it; nothing if it is gone."""
        doing = f"delete {kind} {name}"
        try:
            if _sdk_model(kind):
                self._sdk(
                    doing, kind, lambda: self._training.delete_job(name, self.namespace, kind)
                )
            else:
                query = [("propagationPolicy", "Background")]
                self._call(doing, "DELETE", f"{self._path(kind)}/{name}", query)
        except refusals.MissingError:
            return

    def watch(self, kind: str, selector: str, stop: threading.Event) -> Iterator[Object]:
        """Every change to the chosen objects as it happens, the present state first.

        Ends when the server ends it (after minutes) or `stop` is set.
        """
        query = [
            ("labelSelector", selector),
            ("watch", "true"),
            ("timeoutSeconds", str(WATCH_SECONDS)),
        ]
        for line in self._lines(f"watch {kind}s", self._path(kind), query, WATCH_SECONDS + 10):
            if stop.is_set():
                return
            event = json.loads(line)
            if event["type"] == "ERROR":  # too old a version, mostly; a new watch starts afresh
                return
            found: Object = event["object"]
            yield found

    # -- pods and what happened to them

    def events(self, name: str) -> list[Object]:
        """What happened to the object called `name`, oldest first."""
        found = self.find("Event", fields=f"involvedObject.name={name}")
        return sorted(
            found, key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or ""
        )

    def log_tail(self, pod: str, container: str, lines: int) -> str:
        """The last lines of a container's log; empty before it started."""
        query = [("container", container), ("tailLines", str(lines))]
        path = f"{self._path('Pod')}/{pod}/log"
        try:
            return "\n".join(self._lines(f"read the log of {pod}", path, query))
        except (PermanentError, RetryError):  # not started, gone, or on a node that is silent
            return ""

    def log_follow(self, pod: str, container: str) -> Iterator[str]:
        """Each line of a container's log, those to come too, until the container ends."""
        query = [("container", container), ("follow", "true")]
        path = f"{self._path('Pod')}/{pod}/log"
        yield from self._lines(f"follow the log of {pod}", path, query, read_seconds=None)

    # -- the cluster itself

    def version(self) -> str:
        """Of the API server, for example `v1.36.3`."""
        return str(self._call("ask for the version", "GET", "/version")["gitVersion"])

    def allowed(self, verb: str, kind: str) -> bool:
        """Whether these credentials may do `verb` to objects of `kind` here."""
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
        answer = self._call("ask what is allowed", "POST", path, body=review)
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

    def _sdk(self, doing: str, kind: str, call: Callable[[], T]) -> T:
        """Call the SDK, which wraps what happened in errors that do not say it."""
        from kubernetes.client.rest import ApiException

        try:
            return call()
        except (RuntimeError, TimeoutError) as error:
            cause = error.__cause__ or error.__context__ or error
            if isinstance(cause, ApiException):
                raise _answer(cause, doing, self._path(kind)) from error
            if isinstance(cause, ValueError):  # an object that the SDK's models do not take
                raise PermanentError(f"cannot {doing}: {cause}") from error
            raise refusals.from_connection(cause, doing, self.host) from error

    def _call(
        self,
        doing: str,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        from kubernetes.client.rest import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self._client.api.call_api(
                path,
                method,
                query_params=[each for each in query or [] if each[1]],
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
            )
        except ApiException as error:
            raise _answer(error, doing, path) from error
        except (HTTPError, OSError) as error:
            raise refusals.from_connection(error, doing, self.host) from error

    def _lines(
        self,
        doing: str,
        path: str,
        query: list[tuple[str, str]],
        read_seconds: float | None = READ_SECONDS,
    ) -> Iterator[str]:
        """The lines of an answer as they come."""
        from kubernetes.client.rest import ApiException
        from urllib3.exceptions import HTTPError

        response = None
        try:
            response = self._client.api.call_api(
                path,
                "GET",
                query_params=[each for each in query if each[1]],
                header_params={"Accept": "*/*"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=(CONNECT_SECONDS, read_seconds),
            )
            pending = b""
            for block in response.stream(1 << 14, decode_content=True):
                *lines, pending = (pending + block).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if pending:
                yield pending.decode(errors="replace")
        except ApiException as error:
            raise _answer(error, doing, path) from error
        except (TimeoutError, HTTPError, OSError) as error:
            raise refusals.from_connection(error, doing, self.host) from error
        finally:
            if response is not None:
                response.release_conn()
                response.close()


class _WithTimeouts:
    """The Kubernetes client, every request of which ends."""

    def __init__(self, configuration: Any) -> None:
        from kubernetes.client import ApiClient

        class Timed(ApiClient):
            def request(self, *arguments: Any, **options: Any) -> Any:
                if options.get("_request_timeout") is None:
                    options["_request_timeout"] = (CONNECT_SECONDS, READ_SECONDS)
                return super().request(*arguments, **options)

        self.api = Timed(configuration)


def _answer(error: Any, doing: str, path: str) -> Exception:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    if not error.status:
        return RetryError(f"cannot {doing}: {error.reason}")
    return refusals.from_answer(error.status, body or "", doing, path)
