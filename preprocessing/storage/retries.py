"""Retries: operations on buckets that are repeated when the network or the service failed."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from preprocessing.errors import PermanentError, RetryError
from preprocessing.storage import connections

ATTEMPTS = 6  # gcsfs repeats most single requests itself; this repeats whole operations
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 16.0
DENIED_CODES = {"401", "403"}
TRANSIENT_CODES = {408, 429, 500, 502, 503, 504}
# A second attempt would be refused in the same way.
PERMANENT_ERRNOS = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
# Raised by aiohttp, requests and gcsfs, which are not imported for local paths.
TRANSIENT_NAMES = {
    "ChecksumError",
    "ChunkedEncodingError",
    "ClientConnectionError",
    "ClientConnectorError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectionError",
    "ProxyError",
    "ReadTimeout",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "TransportError",
}

Result = TypeVar("Result")


def retry(path: str, operation: Callable[[], Result]) -> Result:
    """Return what an idempotent operation on a URL returns, once it succeeds.

    Raises:
        RetryError: It failed `ATTEMPTS` times with errors that may pass.
        UsageError: Access is denied; the message says what to do.
        Exception: The operation's own error, when another attempt would not help.
    """
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return operation()
        except Exception as error:
            if not is_transient(error):
                _explain(path, error)
                raise
            if attempt == ATTEMPTS:
                raise RetryError(
                    f"{path} failed {ATTEMPTS} times, last with {type(error).__name__}: {error}; "
                    "run the same command again later, it continues"
                ) from error
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    raise AssertionError  # the loop returns or raises


def _explain(path: str, error: Exception) -> None:
    """Raise an error of one line for a refusal whose own form is a page or an address."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    if str(getattr(error, "code", "")) in DENIED_CODES or (
        isinstance(error, OSError) and first.startswith("Forbidden")
    ):
        raise connections.no_access(path, str(error).splitlines()[-1]) from error
    if type(error).__name__ == "HttpError":
        raise PermanentError(f"{path}: the storage refuses this ({first})") from error


def is_transient(error: BaseException) -> bool:
    """Return whether another attempt may help."""
    code = getattr(error, "code", None)
    if code is not None:
        return str(code).isdecimal() and int(code) in TRANSIENT_CODES
    if {cls.__name__ for cls in type(error).__mro__} & TRANSIENT_NAMES:
        return True
    if isinstance(error, FileNotFoundError | PermissionError | FileExistsError):
        return False
    return isinstance(error, OSError) and error.errno not in {*PERMANENT_ERRNOS, None}
