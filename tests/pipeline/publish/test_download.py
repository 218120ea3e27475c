"""A download gives the published files or nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.publish import gate, published_index
from pipeline.publish.download import fetch
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.storage.tgz import unpack
from tests.conftest import mobilenet
from tests.emulator import Emulator
from tests.pipeline.an_export import VARIANT, make_export, metrics_of
from tests.pipeline.publish.publishing import files, publish_to


@pytest.fixture
def published(tmp_path: Path) -> Path:
    publish_to(make_export(tmp_path / "e"), tmp_path / "published")
    return tmp_path / "published"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in files(folder).items()}


def test_the_way_there_and_back_gives_the_same_files(tmp_path: Path, published: Path) -> None:
    entry = fetch(VARIANT, str(published), str(tmp_path / "fetched"))
    assert contents(tmp_path / "fetched") == contents(tmp_path / "e")
    gate.require_measured(str(tmp_path / "fetched"), metrics_of(tmp_path / "fetched"))
    before = files(tmp_path / "fetched")
    assert fetch(VARIANT, str(published), str(tmp_path / "fetched")) == entry
    assert files(tmp_path / "fetched") == before


def test_through_a_bucket(emulator: Emulator, tmp_path: Path) -> None:
    publish_to(make_export(tmp_path / "e"), f"{emulator.bucket}/checkpoints")
    fetch(VARIANT, f"{emulator.bucket}/checkpoints", str(tmp_path / "fetched"))
    assert contents(tmp_path / "fetched") == contents(tmp_path / "e")


def test_from_a_web_server(tmp_path: Path, published: Path) -> None:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = partial(Handler, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fetch(VARIANT, f"http://127.0.0.1:{server.server_port}", str(tmp_path / "fetched"))
        server.shutdown()
    assert contents(tmp_path / "fetched") == contents(tmp_path / "e")


@pytest.mark.parametrize("kept_bytes", [0, 1000, 7 << 20])
def test_a_web_server_without_ranges_sends_everything_again(
    tmp_path: Path, kept_bytes: int
) -> None:
    export = make_export(tmp_path / "e", flatbuffer=random.Random(1).randbytes(8 << 20))
    publish_to(export, tmp_path / "published")
    entry = published_index.find(str(tmp_path / "published"), VARIANT)
    content = (tmp_path / "published" / entry.version_file).read_bytes()
    partial_file = tmp_path / f"fetched{storage.PARTIAL}{entry.sha256[:12]}.tgz"
    partial_file.write_bytes(content[:kept_bytes])
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path / "published",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        port = server.stdout.readline().split("port ")[1].split()[0]
        fetch(VARIANT, f"http://127.0.0.1:{port}", str(tmp_path / "fetched"))
        server.kill()
    assert contents(tmp_path / "fetched") == contents(tmp_path / "e")


def test_into_a_bucket(emulator: Emulator, tmp_path: Path, published: Path) -> None:
    output = f"{emulator.bucket}/models/{VARIANT}"
    fetch(VARIANT, str(published), output)
    fetch(VARIANT, str(published), output)  # nothing to do
    storage.download_folder(output, str(tmp_path / "fetched"))
    assert contents(tmp_path / "fetched") == contents(tmp_path / "e")
    storage.write_bytes(f"{emulator.bucket}/notes/file", b"mine")
    with pytest.raises(UsageError, match="holds something else"):
        fetch(VARIANT, str(published), f"{emulator.bucket}/notes")


def test_an_interrupted_download_goes_on_where_it_was(tmp_path: Path, published: Path) -> None:
    entry = published_index.find(str(published), VARIANT)
    content = (published / entry.version_file).read_bytes()
    partial_file = tmp_path / f"fetched{storage.PARTIAL}{entry.sha256[:12]}.tgz"
    partial_file.write_bytes(content[:100])
    # Only the rest is read: the start of the published file may as well be gone.
    (published / entry.version_file).write_bytes(b"?" * 100 + content[100:])
    fetch(VARIANT, str(published), str(tmp_path / "fetched"))
    assert contents(tmp_path / "fetched") == contents(tmp_path / "e")
    assert not list(tmp_path.glob(f"*{storage.PARTIAL}*"))


@pytest.mark.parametrize("change", ["flipped", "cut", "gone"])
def test_a_tampered_archive_is_refused_and_nothing_is_kept(
    change: str, tmp_path: Path, published: Path
) -> None:
    archive = published / published_index.find(str(published), VARIANT).version_file
    content = archive.read_bytes()
    if change == "flipped":
        archive.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    elif change == "cut":
        archive.write_bytes(content[:-1])
    else:
        archive.unlink()
    with pytest.raises(DataError, match=r"is not what was published|is not there"):
        fetch(VARIANT, str(published), str(tmp_path / "fetched"))
    assert {path.name for path in tmp_path.iterdir()} == {"e", "published"}


def test_an_archive_that_was_packed_of_other_files_is_refused(
    tmp_path: Path, published: Path
) -> None:
    """Its own checksum is right, but the digests of the measured files are not."""
    from pipeline.publish.archive import pack

    export = tmp_path / "e"
    (export / f"{VARIANT}.tflite").write_bytes(b"flatbuffeR")
    entry = published_index.find(str(published), VARIANT)
    with open(published / entry.version_file, "wb") as stream:
        pack(str(export), stream)
    archive = published / entry.version_file
    digest, size = storage.digest_of_file(str(archive)), archive.stat().st_size
    changed = dataclasses.replace(entry, sha256=digest, bytes=size)
    published_index.write_index(str(published), [changed])
    with pytest.raises(DataError, match=r"is not what was measured: .*tflite changed"):
        fetch(VARIANT, str(published), str(tmp_path / "fetched"))
    assert not (tmp_path / "fetched").exists()


def test_a_name_that_is_not_there_gets_the_nearest_one(tmp_path: Path, published: Path) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{VARIANT}'"):
        fetch("mobilenet_v2_0.35_46", str(published), str(tmp_path / "fetched"))
    with pytest.raises(UsageError, match="publishes nothing"):
        fetch(VARIANT, str(tmp_path), str(tmp_path / "fetched"))


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, published: Path) -> None:
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        fetch(VARIANT, str(published), str(output))
    assert (output / "thesis.txt").read_text() == "years of work"


def tgz(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


@pytest.mark.parametrize(
    "bad",
    [
        member("../escaped"),
        member("a/../../escaped"),
        member("/tmp/escaped"),
        member("a//b"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.LNKTYPE, "metrics.json"),
        member("device", tarfile.CHRTYPE),
        member("folder", tarfile.DIRTYPE),
    ],
    ids=lambda bad: f"{bad.name}:{bad.type!r}",
)
def test_a_member_that_no_export_has_is_refused_by_name(
    bad: tarfile.TarInfo, tmp_path: Path
) -> None:
    archive = tgz(tmp_path / "bad.tgz", member("metrics.json"), bad)
    inside = tmp_path / "inside" / "deep"
    with pytest.raises(DataError, match=r"bad\.tgz: member .* (no plain file|leads out)"):
        unpack(str(archive), str(inside))
    assert os.listdir(inside) == ["metrics.json"]
    assert not list(tmp_path.rglob("escaped"))


def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path) -> None:
    size = 50 << 20
    archive = tgz(tmp_path / "bomb.tgz", member("zeros", size=size), content=bytes(size))
    with pytest.raises(DataError, match="larger than any model"):
        unpack(str(archive), str(tmp_path / "inside"))
    assert not list((tmp_path / "inside").rglob("zeros"))


@pytest.mark.parametrize("damage", ["cut", "no gzip", "no tar"])
def test_what_is_no_archive_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    archive = tmp_path / "bad.tgz"
    content = os.urandom(100_000)
    if damage == "cut":
        tgz(archive, member("metrics.json", size=len(content)), content=content)
        archive.write_bytes(archive.read_bytes()[:-5000])
    else:
        archive.write_bytes(content if damage == "no gzip" else gzip.compress(content))
    with pytest.raises(DataError, match=r"is no complete \.tgz") as refused:
        unpack(str(archive), str(tmp_path / "inside"))
    assert len(str(refused.value).splitlines()) == 1


def test_a_name_as_long_as_the_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    named = tarfile.TarInfo("a")
    named.pax_headers = {"comment": "x" * (200 << 20)}
    archive = tgz(tmp_path / "bad.tgz", named)
    assert archive.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a header of 209,715,\d\d\d bytes"):
        unpack(str(archive), str(tmp_path / "inside"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10 << 20


def test_more_members_than_any_export_has_are_refused(tmp_path: Path) -> None:
    archive = tgz(tmp_path / "bad.tgz", *(member(f"file-{number}") for number in range(2000)))
    with pytest.raises(DataError, match="more than 1,000 members"):
        unpack(str(archive), str(tmp_path / "inside"))


@contextlib.contextmanager
def hostile_server(published: Path, hostile: str, what: str) -> Iterator[str]:
    """Serve a published folder in which the file called `hostile` is what `what` says."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            if not self.path.endswith(hostile):
                super().do_GET()
            elif what == "redirect":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
            else:
                self.send_response(200)
                if what == "lying length":
                    self.send_header("Content-Length", str(1 << 50))
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(4096):  # 4 GiB, if anyone read them
                        self.wfile.write(bytes(1 << 20))

    handler = partial(Handler, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("what", ["endless", "lying length", "redirect"])
@pytest.mark.parametrize("hostile", [".tgz", "index.json"])
def test_a_hostile_server_is_refused_in_one_line_and_nothing_is_kept(
    hostile: str, what: str, tmp_path: Path, published: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with hostile_server(published, hostile, what) as source:
        fetched = mobilenet(
            "fetch", VARIANT, f"--from={source}", f"--output={folder / 'out'}", TMPDIR=str(folder)
        )
    assert fetched.code in (1, 2, 3), fetched.err
    assert len(fetched.err.splitlines()) == 1, fetched.err
    assert not list(folder.iterdir())


def test_an_endless_file_is_read_no_further_than_the_index_says(
    tmp_path: Path, published: Path
) -> None:
    (entry,) = published_index.read_index(str(published))
    (published / entry.version_file).unlink()
    (published / entry.version_file).symlink_to("/dev/zero")
    with pytest.raises(
        DataError, match=rf"more than the {entry.bytes:,} bytes .* nothing was kept"
    ):
        fetch(VARIANT, str(published), str(tmp_path / "here" / "out"))
    assert not list((tmp_path / "here").iterdir())


def test_an_archive_that_is_refused_is_not_kept(tmp_path: Path, published: Path) -> None:
    (entry,) = published_index.read_index(str(published))
    bad = tgz(tmp_path / "bad.tgz", member("../escaped")).read_bytes()
    (published / entry.version_file).write_bytes(bad)
    changed = dataclasses.replace(entry, bytes=len(bad), sha256=hashlib.sha256(bad).hexdigest())
    published_index.write_index(str(published), [changed])
    with pytest.raises(DataError, match="leads out"):
        fetch(VARIANT, str(published), str(tmp_path / "here" / "out"))
    assert not list((tmp_path / "here").iterdir())
