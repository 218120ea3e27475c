"""What a cluster answers when it does not do what was asked, as one line that says what to do."""

from __future__ import annotations

import json
from typing import Any

from pipeline.cluster.backends import registry
from preprocessing.errors import PermanentError, RetryError, UsageError


class NameTakenError(UsageError):
    """An object of this name is there already."""


class MissingError(PermanentError):
    """There is no object of this name."""


class ConflictError(RetryError):
    """Someone else changed the object in the meantime; read it again."""


class LoggedOutError(RetryError):
    """The cluster does not take our credentials, any more or at all."""


KUEUE_GROUP = "kueue.x-k8s.io"


def from_answer(status: int, body: str, doing: str, path: str) -> Exception:
    """The error for HTTP status `status`, to be raised.

    Args:
        status: Of the API server's answer.
        body: Its body; a Status object if the API server itself refused.
        doing: What was asked, for example `create TFJob x`.
        path: Of the request.
    """
    message, reason = _message(body)
    if status == 401:
        return LoggedOutError(
            f"cannot {doing}: the cluster does not accept your credentials; log in again "
            "(on GKE: gcloud auth login)"
        )
    if status == 403:
        return _forbidden(doing, message)
    if status == 404:
        return _not_found(doing, message, reason, path)
    if status == 409:
        if reason == "AlreadyExists":
            return NameTakenError(f"cannot {doing}: the name is taken; choose another --name")
        return ConflictError(f"cannot {doing}: someone else changed it at the same time")
    if status in (400, 413, 415, 422):
        return PermanentError(f"cannot {doing}: the cluster refuses the manifest: {message}")
    if "failed calling webhook" in message:
        return RetryError(
            f"cannot {doing}: the webhook of an operator does not answer ({message}); "
            "see `mobilenet doctor`"
        )
    return RetryError(f"cannot {doing}: the cluster answers {status} ({message})")


def from_connection(error: BaseException, doing: str, host: str) -> RetryError:
    """The error for a request that got no answer."""
    return RetryError(
        f"cannot {doing}: the cluster at {host} does not answer ({_innermost(error)}); is it up, "
        "and KUBECONFIG the right one?"
    )


def _forbidden(doing: str, message: str) -> PermanentError:
    if "exceeded quota" in message:
        return PermanentError(
            f"cannot {doing}: no quota: {message.partition('exceeded quota: ')[2] or message}; "
            "stop a run (`mobilenet jobs`), or raise the ResourceQuota"
        )
    if "violates PodSecurity" in message:
        return PermanentError(f"cannot {doing}: {message}")
    return UsageError(
        f"cannot {doing}: forbidden ({message}); ask for the Role `launcher` of the namespace"
    )


def _not_found(doing: str, message: str, reason: str, path: str) -> PermanentError:
    operators = {operator.group: operator.title for operator in registry.operators()}
    for group, operator in {**operators, KUEUE_GROUP: "Kueue"}.items():
        if f"/{group}/" in path and not reason:  # a plain 404 page: nobody serves this path
            return UsageError(
                f"cannot {doing}: this cluster has no {group}; install {operator}, see "
                "docs/operations.md"
            )
    if message.startswith("namespaces "):
        return UsageError(
            f"cannot {doing}: {message}; install the platform: "
            "kubectl apply --server-side -k k8s/overlays/NAME/platform"
        )
    return MissingError(f"cannot {doing}: {message or 'not found'}")


def _message(body: str) -> tuple[str, str]:
    """Message and reason of a Status object; the first line of anything else."""
    try:
        status: Any = json.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        message = " ".join(str(status.get("message", "")).split())
        return message, str(status.get("reason", ""))
    return (body.strip().splitlines() or [""])[0][:200], ""


def _innermost(error: BaseException) -> str:
    """What is at the bottom of nested connection errors."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
