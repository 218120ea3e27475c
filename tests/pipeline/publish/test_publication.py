"""Publishing is a function of exports: reproducible, repeatable, and never silently replacing."""

from __future__ import annotations

import contextlib
import io
import math
import random
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.publish import published_index
from pipeline.publish.archive import pack
from pipeline.publish.download import fetch
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from tests.emulator import Emulator
from tests.pipeline.an_export import VARIANT, make_export
from tests.pipeline.publish.publishing import files, publish_to


def packed(export: Path) -> bytes:
    stream = io.BytesIO()
    pack(str(export), stream)
    return stream.getvalue()


def test_packing_is_reproducible_and_holds_every_file_flat(tmp_path: Path) -> None:
    first = make_export(tmp_path / "a")
    second = make_export(tmp_path / "b")
    assert packed(first) == packed(second)
    with tarfile.open(fileobj=io.BytesIO(packed(first))) as archive:
        assert archive.getnames() == list(storage.list_files(str(first)))


def test_index_page_card_and_plots_show_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    entry = publish_to(make_export(tmp_path / "e"), folder)
    assert published_index.read_index(str(folder)) == [entry]
    assert set(entry.to_json()) == set(entry.__dataclass_fields__)
    row = "| 4 | 0.39 | 97.0 | – | – | 100.0 | – | – | 97.0 | +0.0 | 0.25 | 0.25 | – |"  # noqa: RUF001
    assert f"| [{VARIANT}]({VARIANT}.tgz) {row}" in (folder / "README.md").read_text()
    card = (folder / f"{VARIANT}.md").read_text()
    for text in (
        "`momentum` 0.9",
        "r" * 64,
        "| tflite_int8 | 97.0 | 100.0 | 0.25 |",
        "- color: RGB",
        "## Limits",
    ):
        assert text in card
    for name in ("madds_top1_accuracy.svg", "mnet_v1_vs_v2_latency.svg"):
        assert f"]({name})" in (folder / "README.md").read_text()
        assert (folder / name).read_bytes().startswith(b"<?xml")


def test_both_names_of_the_archive_hold_the_same_bytes_and_the_second_tells_them(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "published"
    entry = publish_to(make_export(tmp_path / "e"), folder)
    for name in (entry.file, entry.version_file):
        assert storage.digest_of_file(str(folder / name)) == entry.sha256
    assert entry.sha256[:12] in entry.version_file


def test_publishing_again_writes_nothing(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    entry = publish_to(export, tmp_path / "published")
    before = files(tmp_path / "published")
    assert publish_to(export, tmp_path / "published") == entry
    assert files(tmp_path / "published") == before


def test_a_killed_publication_goes_on_without_sending_the_archive_again(tmp_path: Path) -> None:
    """The process was killed after the archives and before the rest."""
    export, folder = make_export(tmp_path / "e"), tmp_path / "published"
    entry = publish_to(export, folder)
    before = files(folder)
    for name in ("index.json", "README.md", f"{VARIANT}.md", f"entries/{VARIANT}.json"):
        (folder / name).unlink()
    assert publish_to(export, folder) == entry
    after = files(folder)
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }
    for name in (entry.file, entry.version_file):
        assert after[name] == before[name]


def test_what_arrives_damaged_is_refused_before_the_index_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = storage.open_write

    @contextlib.contextmanager
    def damaging(path: str) -> Iterator[Any]:
        with write(path) as stream:
            yield stream
            if path.endswith(".tgz"):
                stream.seek(20)
                stream.write(b"?")

    monkeypatch.setattr(storage, "open_write", damaging)
    with pytest.raises(DataError, match="arrived damaged"):
        publish_to(make_export(tmp_path / "e"), tmp_path / "published")
    assert not (tmp_path / "published" / "index.json").exists()


def test_an_imagenet_model_stands_beside_the_original_with_the_difference(tmp_path: Path) -> None:
    export = make_export(
        tmp_path / "e", variant="mobilenet_v2_1.0_224", top1=0.72, num_classes=1000
    )
    publish_to(export, tmp_path / "published")
    page = (tmp_path / "published" / "README.md").read_text()
    assert "| 72.0 | 71.8 | +0.2 | 100.0 | 91.0 | +9.0 |" in page
    assert "| 73.8 |\n" in page


def test_another_export_of_a_variant_replaces_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    old = publish_to(make_export(tmp_path / "old"), folder)
    better = make_export(tmp_path / "new", top1=0.99)
    before = files(folder)
    with pytest.raises(UsageError, match="--overwrite"):
        publish_to(better, folder)
    assert files(folder) == before
    publish_to(better, folder, overwrite=True)
    assert [entry.checkpoint_top1 for entry in published_index.read_index(str(folder))] == [0.99]
    # Whoever has read the old index can still follow it.
    assert storage.digest_of_file(str(folder / old.version_file)) == old.sha256


def test_variants_come_in_the_order_of_the_published_table(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    names = ["mobilenet_v2_0.35_64", "mobilenet_v2_0.35_96", "mobilenet_v2_1.4_224"]
    for name in names:
        publish_to(make_export(tmp_path / name, name), folder)
    published = [entry.name for entry in published_index.read_index(str(folder))]
    assert published == names[::-1][:2] + names[:1]


def test_two_publications_at_once_are_both_in_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    names = ["mobilenet_v2_0.35_96", "mobilenet_v2_0.35_128", "mobilenet_v2_0.5_96"]
    folders = [make_export(tmp_path / name, name) for name in names]
    publish_to(folders[0], folder)
    threads = [threading.Thread(target=publish_to, args=(export, folder)) for export in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in published_index.read_index(str(folder))} == set(names)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"schema_version": 1, "mod', "is not JSON"),
        (b"[]", "is not an index"),
        (b'{"schema_version": 1, "models": [{"variant": "x"}]}', "lacks 'recipe'"),
        (b'{"schema_version": 2, "models": []}', "schema version 2, this program reads 1; upgrade"),
    ],
)
def test_a_damaged_or_newer_index_is_refused_and_left_alone(
    content: bytes, says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "index.json").write_bytes(content)
    with pytest.raises(DataError, match=says):
        publish_to(make_export(tmp_path / "e"), folder)
    assert [path.name for path in folder.iterdir()] == ["index.json"]
    assert (folder / "index.json").read_bytes() == content


# A publication that announces each request to the bucket and waits until it may send it.
PUBLISHER = """
import sys, threading
from pipeline.export import directory
from pipeline.publish.publication import publish
from pipeline.publish.published_index import RegistryReference
from preprocessing.storage import retries

lock, send = threading.Lock(), retries.retry
def announced(path, operation):
    with lock:
        print("request", flush=True)
        sys.stdin.readline()
    return send(path, operation)
retries.retry = announced

export, folder = sys.argv[1:]
metrics = directory.read_metrics(export)
reference = RegistryReference(model=metrics.variant.name, version=1)
publish(export, metrics, reference, folder, overwrite=True)
"""


def let_send(publisher: subprocess.Popen[str], num_requests: float) -> int:
    """Let a publisher send some requests, and return how many it sent; fewer if it ended."""
    assert publisher.stdin
    assert publisher.stdout
    sent = 0
    while sent < num_requests and publisher.stdout.readline() == "request\n":
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
        sent += 1
    return sent


@pytest.mark.slow
def test_a_reader_never_sees_a_broken_model_however_often_publishing_is_killed(
    emulator: Emulator, tmp_path: Path
) -> None:
    """Five SIGKILLs, each during another request, while a model in a real bucket is replaced."""
    folder = f"{emulator.bucket}/mobilenet_v2/checkpoints"
    rng = random.Random(6)
    old, new = (
        make_export(tmp_path / f"{top1}", top1=top1, flatbuffer=rng.randbytes(8 << 20))
        for top1 in (0.9, 0.95)
    )

    def publisher(export: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PUBLISHER, str(export), folder]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    first = publisher(old)
    num_requests = let_send(first, math.inf)
    assert first.wait() == 0
    seen: list[float] = []
    broken: list[BaseException] = []
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            output = tmp_path / "fetched" / str(len(seen))
            try:
                seen.append(fetch(VARIANT, folder, str(output)).checkpoint_top1)
            except BaseException as error:
                broken.append(error)
                return

    reader = threading.Thread(target=poll)
    reader.start()
    killed = 0
    for number in range(5):
        child = publisher(new)
        let_send(child, 1 + number * num_requests // 5)
        child.kill()
        killed += child.wait() != 0
    assert not broken
    assert killed, "every publication had ended before its kill"
    publish_to(new, folder, overwrite=True)
    reads_before = len(seen)
    while len(seen) < reads_before + 2 and reader.is_alive():
        time.sleep(0.01)
    done.set()
    reader.join()
    assert not broken, broken
    print(f"{len(seen)} reads, {killed} of 5 kills in time")
    assert set(seen) == {0.9, 0.95}
    assert seen == sorted(seen), "the older model came back"
