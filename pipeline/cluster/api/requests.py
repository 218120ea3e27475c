"""Requests to the API server: each of them ends, and each failure says what was attempted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.cluster.api import refusals
from preprocessing.errors import PermanentError, RetryError

Query = list[tuple[str, str]]
T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
JSON = "application/json"


class Requests:
    """Requests with one set of credentials.

    Attributes:
        client: The Kubernetes client, whose requests all have a timeout.
        host: URL of the API server.
    """

    def __init__(self, configuration: Any) -> None:
        from kubernetes.client import ApiClient

        class TimedClient(ApiClient):
            def request(self, *arguments: Any, **options: Any) -> Any:
                if options.get("_request_timeout") is None:
                    options["_request_timeout"] = (CONNECT_SECONDS, READ_SECONDS)
                return super().request(*arguments, **options)

        self.client = TimedClient(configuration)
        self.host: str = configuration.host

    def call(
        self,
        attempted: str,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Any:
        """Return the parsed answer to one request.

        Args:
            attempted: The purpose of the request in errors, for example `create TFJob x`.
            method: HTTP method.
            path: Path on the API server.
            query: Parameters; those with an empty value are left out.
            body: JSON-able body.
            content_type: Media type of the body.

        Raises:
            Exception: One of `refusals`, or RetryError.
        """
        from kubernetes.client.rest import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self.client.call_api(
                path,
                method,
                query_params=_with_values(query or []),
                header_params={"Accept": JSON, "Content-Type": content_type},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
            )
        except ApiException as error:
            raise _refusal(error, attempted, path) from error
        except (HTTPError, OSError) as error:
            raise refusals.from_connection(error, attempted, self.host) from error

    def lines(
        self,
        attempted: str,
        path: str,
        query: Query,
        read_seconds: float | None = READ_SECONDS,
    ) -> Iterator[str]:
        """Yield the lines of an answer as they arrive; the arguments are those of `call`."""
        from kubernetes.client.rest import ApiException
        from urllib3.exceptions import HTTPError

        response = None
        try:
            response = self.client.call_api(
                path,
                "GET",
                query_params=_with_values(query),
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
            raise _refusal(error, attempted, path) from error
        except (TimeoutError, HTTPError, OSError) as error:
            raise refusals.from_connection(error, attempted, self.host) from error
        finally:
            if response is not None:
                response.release_conn()
                response.close()

    def through_sdk(self, attempted: str, path: str, call: Callable[[], T]) -> T:
        """Return the result of a call to the Kubeflow SDK, whose own errors hide their cause."""
        from kubernetes.client.rest import ApiException

        try:
            return call()
        except (RuntimeError, TimeoutError) as error:
            cause = error.__cause__ or error.__context__ or error
            if isinstance(cause, ApiException):
                raise _refusal(cause, attempted, path) from error
            if isinstance(cause, ValueError):  # an object that the SDK's models do not accept
                raise PermanentError(f"cannot {attempted}: {cause}") from error
            raise refusals.from_connection(cause, attempted, self.host) from error


def _with_values(query: Query) -> Query:
    return [(name, value) for name, value in query if value]


def _refusal(error: Any, attempted: str, path: str) -> Exception:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    if not error.status:
        return RetryError(f"cannot {attempted}: {error.reason}")
    return refusals.from_answer(error.status, body or "", attempted, path)
