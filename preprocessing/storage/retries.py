"""Retries: operations on buckets that are repeated when the network or the service failed."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from preprocessing.errors import RetryError

ATTEMPTS = 6  # gcsfs repeats most single requests itself; this repeats whole operations
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 16.0
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
        Exception: The operation's own error, when another attempt would not help.
    """
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return operation()
        except Exception as error:
            if not is_transient(error):
                raise
            if attempt == ATTEMPTS:
                raise RetryError(
                    f"{path} failed {ATTEMPTS} times, last with {type(error).__name__}: {error}; "
                    "run the same command again later, it continues"
                ) from error
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    raise AssertionError  # the loop returns or raises


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
