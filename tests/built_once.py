"""Things that tests need and that take minutes to make: they are made once, in the user's cache.

What needs the network, where nothing answers, is unavailable: the tests that need it are skipped,
with the reason in the last lines of the run. In CI (`CI=true`) they fail.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import platformdirs
import pytest

CACHE = platformdirs.user_cache_path("mobilenet-tests")
UNAVAILABLE = "unavailable: "  # starts the reason of a test that is skipped for this
DIGEST = re.compile(r"-[0-9a-f]{16}\b")
_unavailable: dict[Path, str] = {}


class UnreachableError(Exception):
    """A build needs the network, and nothing answers there."""


def built_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Return `path`, a file or folder that is complete or absent, whatever kills its builder.

    Args:
        path: Path below `CACHE`.
        build: Function that makes the path of the same name that it is given; it is called unless
            `path` exists, by one process at a time. If it raises `UnreachableError`, the test that
            needs the path is skipped, and so are those that ask for it later.
    """
    if path in _unavailable:
        skip(_unavailable[path])
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                made = Path(scratch) / path.name
                try:
                    build(made)
                except UnreachableError as error:
                    name = DIGEST.sub("", str(path.relative_to(CACHE)))
                    _unavailable[path] = f"{name} cannot be made: {error}"
                    skip(_unavailable[path])
                os.replace(made, path)
    return path


def skip(reason: str) -> NoReturn:
    """End the test, for what is unavailable."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(UNAVAILABLE + reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say last what could not be tested here, and why."""
    yield
    reasons = [str(report.longrepr[2]) for report in terminalreporter.getreports("skipped")]
    missing = Counter(
        reason.partition(UNAVAILABLE)[2] for reason in reasons if UNAVAILABLE in reason
    )
    if missing:
        terminalreporter.section("not tested")
    for reason, count in missing.items():
        terminalreporter.line(f"{count} skipped, because {reason}")
