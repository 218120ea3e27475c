"""The first contact with a store: whether it can be reached, and as whom.

gcsfs asks for credentials in several places and repeats every request for minutes, which suits a
long run but not somebody who has no network or is not logged in. Both are found out here, once
per process, within seconds.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from preprocessing.errors import RetryError, UsageError

# gcsfs reads this when it is imported. Its experimental support of zonal buckets asks Google's
# gRPC API about every bucket first, even where an emulator or a proxy stands for the storage.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

Result = TypeVar("Result")

CONTACT_SECONDS = 10.0  # to resolve a name and to connect
METADATA_SECONDS = 3.0  # for one answer of the metadata server of Google's machines
METADATA_ATTEMPTS = 3  # on Google's machines: a pod is often ready before its metadata server
PAUSE_SECONDS = 1.0
GOOGLE = "https://storage.googleapis.com"
LOGIN = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the "
    "file of a service account"
)


def options_of(path: str) -> dict[str, Any]:
    """Return the options with which fsspec opens the filesystem of a URL, once it is in reach.

    Raises:
        RetryError: Its server cannot be reached.
        UsageError: The credentials on this machine are not valid.
    """
    protocol = path.partition("://")[0]
    if protocol in ("gs", "gcs"):
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs every traceback
        require_reachable(os.environ.get("STORAGE_EMULATOR_HOST") or GOOGLE)
        return {"token": google_token()}
    if protocol in ("http", "https"):
        require_reachable(path)
    return {}


def require_reachable(url: str) -> None:
    """Connect to the server of a URL once per process.

    Raises:
        RetryError: It cannot be reached; the message says why.
        UsageError: The URL is none.
    """
    try:
        address = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        port = address.port or {"http": 80}.get(address.scheme, 443)
    except ValueError as error:
        raise UsageError(f"{url} is no web address ({error})") from None
    if address.hostname and not urllib.request.getproxies().get(address.scheme):
        _connect(address.hostname, port)


@functools.cache
def _connect(host: str, port: int) -> None:
    deadline = time.monotonic() + CONTACT_SECONDS
    while True:
        left = deadline - time.monotonic()
        try:
            within(left, functools.partial(_open_and_close, host, port, max(left, 0.1)))
            return
        except OSError as error:
            if time.monotonic() + PAUSE_SECONDS > deadline:
                raise RetryError(
                    f"{host}:{port} cannot be reached ({error.strerror or error}); check the "
                    "network, then run the same command again"
                ) from error
        time.sleep(PAUSE_SECONDS)


def _open_and_close(host: str, port: int, seconds: float) -> None:
    socket.create_connection((host, port), seconds).close()


def within(seconds: float, action: Callable[[], Result]) -> Result:
    """Return what `action` returns; raise TimeoutError if that takes longer.

    The resolver has no timeout of its own.
    """
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def act() -> None:
        try:
            outcome.append(action())
        except BaseException as error:
            failure.append(error)

    acting = threading.Thread(target=act, daemon=True)
    acting.start()
    acting.join(max(seconds, 0.1))
    if failure:
        raise failure[0]
    if acting.is_alive():
        raise TimeoutError("no answer")
    return outcome[0]


@functools.cache
def google_token() -> str:
    """Return how gcsfs authenticates: `google_default`, `cloud` or `anon`.

    Without any credentials, public buckets can still be read.

    Raises:
        UsageError: The file of credentials is damaged or no longer accepted.
        RetryError: The server that accepts them cannot be reached.
    """
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return "anon"
    file = credentials_file()
    if file:
        _require_accepted(file)
        return "google_default"
    return "cloud" if _metadata_answers() else "anon"


def credentials_file() -> str:
    """Return the file of credentials that Google's libraries use here; empty without one."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return named
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    default = os.path.join(folder, "application_default_credentials.json")
    return default if os.path.exists(default) else ""


def _require_accepted(file: str) -> None:
    import google.auth
    import google.auth.transport.requests
    from google.auth import exceptions

    request = functools.partial(google.auth.transport.requests.Request(), timeout=CONTACT_SECONDS)
    scope = "https://www.googleapis.com/auth/devstorage.full_control"
    try:
        credentials, _ = google.auth.load_credentials_from_file(file, scopes=[scope])
        within(CONTACT_SECONDS, lambda: credentials.refresh(request))
    except (exceptions.TransportError, TimeoutError) as error:
        raise RetryError(
            f"the credentials in {file} cannot be checked ({_first_line(error)}); check the "
            "network, then run the same command again"
        ) from error
    except (exceptions.GoogleAuthError, OSError, ValueError) as error:
        raise UsageError(
            f"the credentials in {file} are not accepted ({_first_line(error)}); {LOGIN}"
        ) from error


def _metadata_answers() -> bool:
    """Return whether the metadata server of a Google machine gives credentials here."""
    host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/service-accounts/default/email",
        headers={"Metadata-Flavor": "Google"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for attempt in range(METADATA_ATTEMPTS if _is_google_machine() else 1):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            within(METADATA_SECONDS, lambda: opener.open(request, timeout=METADATA_SECONDS).close())
            return True
        except OSError:
            continue
    return False


def _is_google_machine() -> bool:
    try:
        with open("/sys/class/dmi/id/product_name") as product:
            return "Google" in product.read()
    except OSError:
        return False


def no_access(path: str, reason: str) -> UsageError:
    """Return the error for a refused request, which says as whom it was made."""
    if not os.environ.get("STORAGE_EMULATOR_HOST") and google_token() == "anon":
        return UsageError(
            f"{path}: this machine has no credentials, and the bucket is not public; {LOGIN}"
        )
    return UsageError(
        f"{path}: access denied ({reason}); give this account the role "
        "roles/storage.objectUser on the bucket"
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
