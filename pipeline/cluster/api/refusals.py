"""Refusals of a cluster, each as one line that says what to do."""

from __future__ import annotations

import json
from typing import Any

from pipeline.cluster.backends import registry
from preprocessing.errors import PermanentError, RetryError, UsageError


class NameTakenError(UsageError):
    """An object of this name exists already."""


class MissingError(PermanentError):
    """No object has this name."""


class ForbiddenError(UsageError):
    """These credentials have no right to do this."""


class ConflictError(RetryError):
    """The object was changed by someone else in the meantime; read it again."""


class UnreachableError(RetryError):
    """The cluster gives no answer, or none to anything."""


class LoggedOutError(UnreachableError):
    """The cluster does not accept the credentials, or no longer does."""


KUEUE_GROUP = "kueue.x-k8s.io"


def from_answer(status: int, body: str, attempted: str, path: str) -> Exception:
    """Return the error for an answer of the API server.

    Args:
        status: HTTP status of the answer.
        body: Body of the answer; a Status object if the API server itself refused.
        attempted: The purpose of the request, for example `create TFJob x`.
        path: Path of the request.
    """
    message, reason = _message(body)
    if status == 401:
        return LoggedOutError(
            f"cannot {attempted}: the cluster does not accept your credentials; log in again "
            "(on GKE: gcloud auth login)"
        )
    if status == 403:
        return _forbidden(attempted, message)
    if status == 404:
        return _not_found(attempted, message, reason, path)
    if status == 409:
        if reason == "AlreadyExists":
            return NameTakenError(f"cannot {attempted}: the name is taken; choose another --name")
        return ConflictError(f"cannot {attempted}: someone else changed it at the same time")
    if status in (400, 413, 415, 422):
        return PermanentError(f"cannot {attempted}: the cluster refuses the manifest: {message}")
    if "failed calling webhook" in message:
        return RetryError(
            f"cannot {attempted}: the webhook of an operator does not answer ({message}); "
            "see `mobilenet doctor`"
        )
    return RetryError(f"cannot {attempted}: the cluster answers {status} ({message})")


def from_connection(error: BaseException, attempted: str, host: str) -> UnreachableError:
    """Return the error for a request that got no answer."""
    return UnreachableError(
        f"cannot {attempted}: the cluster at {host} does not answer ({_innermost(error)}); "
        "is it up, and is KUBECONFIG the right one?"
    )


def _forbidden(attempted: str, message: str) -> PermanentError:
    if "exceeded quota" in message:
        return PermanentError(
            f"cannot {attempted}: no quota: {message.partition('exceeded quota: ')[2] or message}; "
            "stop a run (`mobilenet jobs`), or raise the ResourceQuota"
        )
    if "violates PodSecurity" in message:
        return PermanentError(f"cannot {attempted}: {message}")
    return ForbiddenError(
        f"cannot {attempted}: forbidden ({message}); ask for the Role `launcher` of the namespace"
    )


def _not_found(attempted: str, message: str, reason: str, path: str) -> PermanentError:
    operators = {operator.group: operator.title for operator in registry.operators()}
    for group, operator in {**operators, KUEUE_GROUP: "Kueue"}.items():
        if f"/{group}/" in path and not reason:  # a plain 404 page: nothing serves this path
            return UsageError(
                f"cannot {attempted}: this cluster has no {group}; install {operator}, see "
                "docs/operations.md"
            )
    if message.startswith("namespaces "):
        return UsageError(
            f"cannot {attempted}: {message}; install the platform: "
            "kubectl apply --server-side -k k8s/overlays/NAME/platform"
        )
    return MissingError(f"cannot {attempted}: {message or 'not found'}")


def _message(body: str) -> tuple[str, str]:
    """Return message and reason of a Status object, or the first line of anything else."""
    try:
        status: Any = json.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        message = " ".join(str(status.get("message", "")).split())
        return message, str(status.get("reason", ""))
    return (body.strip().splitlines() or [""])[0][:200], ""


def _innermost(error: BaseException) -> str:
    """Return the text of the innermost of nested connection errors."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
