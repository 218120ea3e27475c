"""Errors and their exit codes, on which an operator can act.

0 means done and 143 means "retry". Every other code is permanent: the same command would fail in
the same way, so a cluster must not repeat it.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable

RETRY_EXIT_CODE = 143  # 128 + SIGTERM: the Training Operator restarts exit codes of 128 and more.


class PermanentError(Exception):
    """A failure whose message is one clear line; `exit_code` tells its kind, `meaning` names it."""

    exit_code = 1
    meaning = "another failure"


class UsageError(PermanentError):
    """The request is impossible: a wrong name, path, option or combination."""

    exit_code = 2
    meaning = "wrong usage"


class DataError(PermanentError):
    """The data is wrong: a broken archive, too many rejects, a corrupt record."""

    exit_code = 3
    meaning = "bad data"


class NonFiniteLossError(PermanentError):
    """The loss became NaN or infinite; a retry from the same checkpoint would end alike."""

    exit_code = 4
    meaning = "loss not finite"


class CheckFailedError(PermanentError):
    """Results disagree with those that they must equal, or are below the champion's.

    An export of which this is so is not written.
    """

    exit_code = 5
    meaning = (
        "an export disagrees with its checkpoint or is below the champion, or a machine computes "
        "wrong results"
    )


class StorageFullError(PermanentError):
    """The disk, quota or bucket is full; finished work is intact."""

    exit_code = 6
    meaning = "no space left"


class RetryError(Exception):
    """A peer or the machine went away while the work was in order; run it again."""

    exit_code = RETRY_EXIT_CODE
    meaning = "interrupted or lost a peer, run it again to continue"


ERRORS: tuple[type[PermanentError] | type[RetryError], ...] = (
    UsageError,
    DataError,
    NonFiniteLossError,
    CheckFailedError,
    StorageFullError,
    RetryError,
)
PERMANENT_EXIT_CODES = sorted(
    {PermanentError.exit_code, *(error.exit_code for error in ERRORS if error is not RetryError)}
)


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return the nearest allowed name as a hint, or all of them when none is near."""
    names = list(allowed)
    near = difflib.get_close_matches(given, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}"


def one_line(text: str) -> str:
    """Return text that may be a stranger's as one line that a terminal shows and never obeys."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def describe_os_error(error: OSError) -> PermanentError:
    """Return the error for a refusal of the operating system: path, reason, what to do."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            f"{where}no space left; free some space and run the same command again, it continues"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UsageError(f"{where}permission denied; choose a folder you can write to")
    if isinstance(error, FileNotFoundError) and not error.strerror:  # of a bucket
        return UsageError(f"{error} does not exist; check the bucket and the path")
    return UsageError(f"{where}{error.strerror or error}")


_FAILURE = re.compile(r"<failure (\d+): (.*?)</failure>", re.DOTALL)


def encode_failure(error: PermanentError | RetryError | OSError) -> str:
    """Return an error as text that `decode_failure` finds inside any other text."""
    if isinstance(error, OSError):
        error = describe_os_error(error)
    return f"<failure {error.exit_code}: {error}</failure>"


def decode_failure(text: str) -> PermanentError | RetryError | None:
    """Return the first error that `encode_failure` put into `text`; None without one."""
    found = _FAILURE.search(text)
    if not found:
        return None
    if int(found[1]) == RETRY_EXIT_CODE:
        return RetryError(found[2])
    error = PermanentError(found[2])
    error.exit_code = int(found[1])
    return error
