"""Downloads of one large file that go on where they stopped, if the server can do that.

A web server may be a stranger's. Whatever it sends, a download ends: with the file, or with one
line.
"""

from __future__ import annotations

import functools
import http.client
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from preprocessing.errors import DataError, RetryError, UsageError
from preprocessing.storage import connections, retries
from preprocessing.storage.paths import BLOCK_BYTES
from preprocessing.storage.reading import open_read

WEB = ("http://", "https://")
ANSWER_SECONDS = 60.0  # for the head of an answer, redirects included, and for each next part
SLOWEST_BYTES_PER_SECOND = 1000.0  # on average over `ANSWER_SECONDS`
RANGE_BEYOND_END = 416  # HTTP status
PARTIAL_CONTENT = 206  # HTTP status


def download(url: str, path: str, *, max_bytes: int) -> None:
    """Copy `url` to the local file `path`; what the file holds already is not fetched again.

    Args:
        url: A local path or a URL. A web server that ignores ranges sends everything again.
        path: The file. Compare its digest afterwards: it may have begun with something else.
        max_bytes: The size that was promised, or another bound. No more is written.

    Raises:
        DataError: There is more than that, or the server is no proper web server.
        FileNotFoundError: There is no such file.
        RetryError: The server cannot be reached, always ends before the file does, or is slower
            than `SLOWEST_BYTES_PER_SECOND`.
        UsageError: The server refuses the request.
    """
    if url.startswith(WEB):
        connections.require_reachable(url)
        retries.retry(url, lambda: _from_web(url, path, max_bytes))
        return
    with open_read(url) as source, open(path, "ab") as target:
        source.seek(target.tell())
        _copy(functools.partial(source.read, BLOCK_BYTES), target, url, max_bytes)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects, but only to the web."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        target = urllib.parse.urljoin(req.full_url, headers.get("Location") or "")
        if not target.startswith(WEB):
            raise DataError(
                f"{req.full_url} redirects to {target!r:.200}; allowed: http:// and https://"
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _from_web(url: str, path: str, max_bytes: int) -> None:
    size_bytes = os.path.getsize(path) if os.path.exists(path) else 0
    headers = {"Range": f"bytes={size_bytes}-"} if size_bytes else {}
    with _explained(url):
        request = urllib.request.Request(url, headers=headers)
        opener = urllib.request.build_opener(_Redirects)
        try:
            answer = connections.within(
                ANSWER_SECONDS, lambda: opener.open(request, timeout=ANSWER_SECONDS)
            )
        except urllib.error.HTTPError as error:
            if error.code == RANGE_BEYOND_END:
                return  # everything is there
            raise
        with answer, open(path, "ab" if answer.status == PARTIAL_CONTENT else "wb") as target:
            start, promised_bytes = target.tell(), answer.length
            _require_at_most(max_bytes, start + (promised_bytes or 0), url)
            read = functools.partial(
                connections.within, ANSWER_SECONDS, lambda: answer.read1(BLOCK_BYTES)
            )
            _copy(_Paced(read, url), target, url, max_bytes)
            if promised_bytes is not None and target.tell() - start < promised_bytes:
                raise ConnectionError(f"{url} ended early")


class _Paced:
    """Reads, which end with RetryError when too little comes in the time for an answer."""

    def __init__(self, read: Callable[[], bytes], url: str) -> None:
        self._read, self._url = read, url
        self._began, self._num_bytes = time.monotonic(), 0

    def __call__(self) -> bytes:
        block = self._read()
        self._num_bytes += len(block)
        seconds = time.monotonic() - self._began
        if block and seconds > ANSWER_SECONDS:
            if self._num_bytes < SLOWEST_BYTES_PER_SECOND * seconds:
                raise RetryError(
                    f"{self._url} sends less than {SLOWEST_BYTES_PER_SECOND:,.0f} bytes per "
                    "second; run the same command again later, it continues"
                )
            self._began, self._num_bytes = time.monotonic(), 0
        return block


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what the block raises for a server's answer into errors that `retries` knows."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError(url) from error
        if 300 <= error.code < 400:
            raise DataError(
                f"{url} redirects too often, in a circle or to nowhere ({error.code}); ask its "
                "publisher for another address"
            ) from error
        if retries.is_transient(error):
            raise
        raise UsageError(
            f"{url}: the server answers {error.code} {error.reason!r:.80}; check the address"
        ) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise UsageError(
                f"{url}: the certificate of the server is not valid "
                f"({error.reason.verify_message}); check the address"
            ) from error
        raise ConnectionError(f"{error.reason}") from error
    except TimeoutError as error:
        raise RetryError(
            f"{url} gives no answer within {ANSWER_SECONDS:.0f} s; run the same command again "
            "later, it continues"
        ) from error
    except http.client.IncompleteRead as error:
        raise ConnectionError(f"{url} ended early") from error
    except (http.client.HTTPException, ValueError) as error:
        if isinstance(error, ConnectionError):
            raise
        raise DataError(
            f"{url} does not answer as a web server does ({str(error)[:80] or 'nothing'!r}); "
            "check the address"
        ) from error


def _copy(read: Callable[[], bytes], target: IO[bytes], url: str, max_bytes: int) -> None:
    while block := read():
        _require_at_most(max_bytes, target.tell() + len(block), url)
        target.write(block)


def _require_at_most(max_bytes: int, num_bytes: int, url: str) -> None:
    if num_bytes > max_bytes:
        raise DataError(f"{url} has more than the {max_bytes:,} bytes that it should have")
