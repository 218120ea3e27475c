"""Thousands of damaged exports, published folders and web servers are used or refused in one line.

No input causes another exception, a hang, much memory, or a file that stays. The inputs are
seeded: the number in a failure's message makes the same input again.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import json
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.export import directory, history, per_image
from pipeline.publish import comparison, download, gate, mlflow_entry, published_index
from pipeline.publish.pages import accuracy_table, index_page, model_card
from preprocessing.storage import downloads, retries
from preprocessing.storage.tgz import unpack
from tests.fuzzing import mutate, mutate_json, survive
from tests.pipeline.an_export import VARIANT, make_export
from tests.pipeline.publish.publishing import publish_to
from training.workdir.workdir import Workdir

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 1.5, 10**30, 10**400, 1e300, float("nan"), float("inf"), 2**63),
    *("", "../../x", "/etc/passwd", "a\nb", "x" * 999, "\ud800", "$\\frac$", "`|<b>"),
    *([], {}, [[]], [None], {"a": 1}),
)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return make_export(tmp_path / "e")


@pytest.fixture
def published(export: Path, tmp_path: Path) -> Path:
    publish_to(export, tmp_path / "published")
    return tmp_path / "published"


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a JSON document with one odd value, or with odd bytes."""
    if chance.random() < 0.2:
        return mutate(content, chance)
    return json.dumps(mutate_json(json.loads(content), chance, ODD)).encode()


@pytest.mark.slow
def test_indexes(published: Path, tmp_path: Path) -> None:
    index = published / published_index.INDEX
    sound = index.read_bytes()

    def attempt(chance: random.Random) -> None:
        index.write_bytes(damaged(sound, chance))
        entries = published_index.read_index(str(published))
        accuracy_table.ours(entries)
        index_page.page(entries).encode()
        for entry in entries:
            model_card.card(entry).encode()
        if chance.random() < 0.3:
            output = tmp_path / "here" / "out"
            try:
                download.fetch(VARIANT, str(published), str(output))
                assert directory.is_export(str(output))
            finally:
                shutil.rmtree(output, ignore_errors=True)
                assert not list(output.parent.iterdir()) or not output.parent.exists()

    (tmp_path / "here").mkdir()
    survive("indexes", 3000, attempt)


@pytest.mark.slow
def test_exports(export: Path) -> None:
    """One file of an export is damaged, and its digest may say so or not."""
    names = (
        *(directory.METRICS, directory.METRICS, directory.METRICS, directory.CONFIG_FILE),
        *(history.FILE, per_image.FILE, directory.LABELS),
    )
    sound = {name: (export / name).read_bytes() for name in names}

    def attempt(chance: random.Random) -> None:
        name = chance.choice(names)
        change = damaged if name.endswith(".json") else mutate
        (export / name).write_bytes(change(sound[name], chance))
        try:
            metrics = directory.read_metrics(str(export))
            run = directory.read_run(str(export), metrics)
            curves = history.read(str(export))
            list(mlflow_entry.batches(run, metrics, curves))
            mlflow_entry.tags(metrics)
            published_index.unpublished_entry(str(export), metrics)
            comparison.tables(comparison.compare(str(export), str(export), "sqlite://"))
            Workdir(str(export)).read_run()
            if chance.random() < 0.1:
                gate.require_measured(str(export), metrics)
        finally:
            (export / name).write_bytes(sound[name])

    survive("exports", 600, attempt)


def test_archives(published: Path, tmp_path: Path) -> None:
    """What the index promises is what arrives, and the archive itself is hostile."""
    (entry,) = published_index.read_index(str(published))
    sound = gzip.decompress((published / entry.version_file).read_bytes())
    archive, folder = tmp_path / "x.tgz", tmp_path / "unpacked"

    def attempt(chance: random.Random) -> None:
        archive.write_bytes(gzip.compress(mutate(sound, chance), 1))
        before = {path.name for path in tmp_path.iterdir()}
        try:
            unpack(str(archive), str(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            assert {path.name for path in tmp_path.iterdir()} == before

    survive("archives", 1000, attempt)


class Hostile(http.server.BaseHTTPRequestHandler):
    """A web server that does what `chance` says with the files of a folder."""

    protocol_version = "HTTP/1.1"
    folder: Path
    chance: random.Random

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            self._answer()
        self.close_connection = True

    def _answer(self) -> None:
        path = self.folder / self.path.lstrip("/")
        content = path.read_bytes() if path.is_file() else b""
        kind = self.chance.randrange(16)
        if kind == 0:
            self.wfile.write(self.chance.randbytes(300))
        elif kind == 1:
            self._redirect(self.chance.choice(TARGETS))
        elif kind == 2:
            self._send(content, length=len(content) + self.chance.choice((1, 1 << 40)))
        elif kind == 3:
            self._send(content, length=max(0, len(content) - self.chance.randrange(1, 999)))
        elif kind == 4:
            self._send(content, length=self.chance.choice(("x", "-1", "", "9" * 5000)))
        elif kind == 5:
            self._send(content, status=206, Content_Range="bytes 5-9/3")
        elif kind == 6:
            self._send(content, status=self.chance.choice((204, 400, 401, 403, 404, 418, 416)))
        elif kind == 7:
            self._send(gzip.compress(content), Content_Encoding="gzip")
        elif kind == 8:
            self._endless(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16))
        elif kind == 9:
            self._endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 99)
        elif kind == 10:
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.wfile.write(head + mutate(b"5\r\nabcde\r\n0\r\n\r\n", self.chance))
        else:
            self._send(mutate(content, self.chance) if kind == 11 else content)

    def _send(
        self, content: bytes, *, status: int = 200, length: object = None, **more: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _redirect(self, target: str) -> None:
        self.send_response(self.chance.choice((301, 302, 303, 307, 308)))
        self.send_header("Location", target.replace("HERE", self.headers.get("Host", "")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _endless(self, head: bytes, block: bytes) -> None:
        self.wfile.write(head)
        for _ in range(1 << 14):
            self.wfile.write(block)


TARGETS = (
    *("file:///etc/passwd", "ftp://HERE/x", "data:text/plain,x", "gopher://x", "javascript:x"),
    *("http://HERE/index.json", "http://HERE/", "", "//", "http://", "http://[::1", "http://a:b/"),
    *("/\u00e9", "http://HERE/\u00fc x", "\\\\x", "HTTP://HERE/a", "?", "http://\u00e9\u00e9/"),
)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, type[Hostile]]]:
    class Handler(Hostile):
        pass

    Handler.folder = folder
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_SECONDS", 0.001)


@pytest.mark.slow
def test_servers(impatient: None, published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()

    def attempt(chance: random.Random) -> None:
        handler.chance = chance
        try:
            download.fetch(VARIANT, source, str(folder / "out"))
        finally:
            shutil.rmtree(folder / "out", ignore_errors=True)
            for kept in folder.iterdir():  # of a download that can go on
                assert kept.stat().st_size < 1 << 20
                kept.unlink()

    with serving(published) as (source, handler):
        survive("servers", 500, attempt)


def test_a_server_that_dribbles_is_left_after_the_time_for_an_answer(
    impatient: None, tmp_path: Path
) -> None:
    """In the head, in the body, between chunks and after the last one."""
    heads = (
        (b"HTTP/1.1 200 OK\r\n", b"A"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"A"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nA\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    )
    stop = threading.Event()

    class Dribbling(Hostile):
        def _answer(self) -> None:
            head, block = heads[int(self.path.lstrip("/"))]
            self.wfile.write(head)
            while not stop.wait(0.05):
                self.wfile.write(block)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dribbling) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        for number in range(len(heads)):
            with pytest.raises(downloads.RetryError, match=r"no answer|sends less than"):
                downloads.download(
                    f"http://127.0.0.1:{server.server_port}/{number}",
                    str(tmp_path / "x"),
                    max_bytes=1 << 20,
                )
        stop.set()
        server.shutdown()


def test_what_arrives_whole_is_what_was_published(published: Path) -> None:
    """The server of these tests is a server: without faults, everything arrives."""
    with serving(published) as (source, handler):
        handler.chance = random.Random()
        handler.chance.randrange = lambda *_: 15  # type: ignore[method-assign]
        entries = published_index.read_index(source)
    archive = (published / entries[0].version_file).read_bytes()
    assert hashlib.sha256(archive).hexdigest() == entries[0].sha256
