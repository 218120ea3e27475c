"""Downloads of one large file that go on where they stopped, if the server can do that."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import IO

from preprocessing.errors import DataError
from preprocessing.storage import connections, retries
from preprocessing.storage.paths import BLOCK_BYTES
from preprocessing.storage.reading import open_read

ANSWER_SECONDS = 60.0
RANGE_BEYOND_END = 416  # HTTP status
PARTIAL_CONTENT = 206  # HTTP status


def download(url: str, path: str, *, max_bytes: int) -> None:
    """Copy `url` to the local file `path`; what the file holds already is not fetched again.

    Args:
        url: A local path or a URL. A web server that ignores ranges sends everything again.
        path: The file. Compare its digest afterwards: it may have begun with something else.
        max_bytes: The size that was promised, or another bound. No more is written.

    Raises:
        DataError: There is more than that.
        FileNotFoundError: There is no such file.
        RetryError: The server cannot be reached, or always ends before the file does.
    """
    if url.startswith(("http://", "https://")):
        connections.require_reachable(url)
        retries.retry(url, lambda: _from_web(url, path, max_bytes))
        return
    with open_read(url) as source, open(path, "ab") as target:
        source.seek(target.tell())
        _copy(source, target, url, max_bytes)


def _from_web(url: str, path: str, max_bytes: int) -> None:
    size_bytes = os.path.getsize(path) if os.path.exists(path) else 0
    headers = {"Range": f"bytes={size_bytes}-"} if size_bytes else {}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=ANSWER_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code == RANGE_BEYOND_END:
            return  # everything is there
        if error.code in (404, 410):
            raise FileNotFoundError(url) from error
        raise
    with answer, open(path, "ab" if answer.status == PARTIAL_CONTENT else "wb") as target:
        start = target.tell()
        _copy(answer, target, url, max_bytes)
        expected = answer.headers.get("Content-Length")
        if expected is not None and target.tell() - start < int(expected):
            raise ConnectionError(f"{url} ended early")


def _copy(source: IO[bytes], target: IO[bytes], url: str, max_bytes: int) -> None:
    while block := source.read(BLOCK_BYTES):
        if target.tell() + len(block) > max_bytes:
            raise DataError(f"{url} has more than the {max_bytes:,} bytes that it should have")
        target.write(block)
