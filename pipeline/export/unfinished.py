"""The folder of an export that is not finished: what is in it, an interrupted export keeps.

    OUTPUT.partial-export/
        identity.json     what is exported; another identity starts from nothing
        export/           the export as it grows
        finished.json     the digests of the files in `export/` that are finished
        reference.pb      the graph that formats are compared with
        comparison/       the predictions on one chunk of images each

For an export to a bucket the folder is a temporary one of this machine, and every finished part is
copied beside the output at once, so that another machine can continue.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from preprocessing import storage

SUFFIX = f"{storage.PARTIAL}export"
IDENTITY = "identity.json"
EXPORT = "export"
REFERENCE_GRAPH = "reference.pb"
FINISHED = "finished.json"
CHUNKS = "comparison"
CHUNK_SUFFIX = ".npz"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An unfinished export, for every process that works on it.

    Attributes:
        folder: The local folder.
        copy: The folder beside the output if that is in a bucket.
    """

    folder: str
    copy: str | None

    @property
    def export(self) -> str:
        """The local folder that becomes the export."""
        return os.path.join(self.folder, EXPORT)

    def require_identity(self, identity: dict[str, Any]) -> None:
        """Remove everything if it belongs to another export."""
        path, wanted = os.path.join(self.folder, IDENTITY), storage.json_bytes(identity)
        is_same = os.path.exists(path) and storage.read_bytes(path) == wanted
        if not is_same:
            _empty(self.folder)
            if self.copy:
                storage.remove(self.copy)
        for name in (EXPORT, CHUNKS):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        if not is_same:
            self.write(IDENTITY, wanted)

    def is_finished(self, name: str) -> bool:
        """Return whether a file or folder of the export was finished and has not changed."""
        digests = self._finished().get(name)
        return digests is not None and digests == self._digests(name)

    def finish(self, name: str) -> None:
        """Note that a file or folder of the export is finished."""
        finished = self._finished()
        finished[name] = self._digests(name)
        if self.copy:
            for below in finished[name]:
                self._send(os.path.join(EXPORT, below))
        self.write(FINISHED, storage.json_bytes(finished))

    def chunk_numbers(self) -> list[int]:
        """Return the numbers of the finished chunks of the comparison."""
        names = storage.list_files(os.path.join(self.folder, CHUNKS))
        return [int(name.removesuffix(CHUNK_SUFFIX)) for name in names]

    def read_chunk(self, number: int) -> bytes:
        """Return a finished chunk of the comparison."""
        return self.read(os.path.join(CHUNKS, f"{number:06d}{CHUNK_SUFFIX}"))

    def write_chunk(self, number: int, content: bytes) -> None:
        """Keep a finished chunk of the comparison."""
        self.write(os.path.join(CHUNKS, f"{number:06d}{CHUNK_SUFFIX}"), content)

    def read(self, name: str) -> bytes:
        """Read a file of this folder."""
        return storage.read_bytes(os.path.join(self.folder, name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file of this folder, which appears complete."""
        storage.write_bytes(os.path.join(self.folder, name), content)
        if self.copy:
            self._send(name)

    def _finished(self) -> dict[str, dict[str, str]]:
        path = os.path.join(self.folder, FINISHED)
        finished: dict[str, dict[str, str]] = (
            storage.read_json(path) if os.path.exists(path) else {}
        )
        return finished

    def _digests(self, name: str) -> dict[str, str]:
        path = os.path.join(self.export, name)
        names = [os.path.join(name, below) for below in storage.list_files(path)]
        if os.path.isfile(path):
            names = [name]
        return {below: storage.digest_of_file(os.path.join(self.export, below)) for below in names}

    def _send(self, name: str) -> None:
        assert self.copy
        storage.upload_file(os.path.join(self.folder, name), storage.join(self.copy, name))


@contextlib.contextmanager
def unfinished(output: str) -> Iterator[Unfinished]:
    """Yield what an interrupted export to `output` has left, or an empty folder.

    The caller moves `export` away or publishes it, and then calls `remove`.
    """
    if not storage.is_remote(output):
        os.makedirs(f"{output}{SUFFIX}", exist_ok=True)
        yield Unfinished(f"{output}{SUFFIX}", None)
        return
    copy = _copy(output)
    with storage.temporary_folder("export") as folder:
        storage.download_folder(copy, folder)
        yield Unfinished(folder, copy)


@contextlib.contextmanager
def lock(output: str) -> Iterator[None]:
    """Hold an output against other exports while the block runs, and wait for them if need be."""
    with storage.exclusive(f"{output}{SUFFIX}", "export"):
        yield


def remove(output: str) -> None:
    """Remove what `unfinished` keeps of an export to `output`."""
    storage.remove(_copy(output) if storage.is_remote(output) else f"{output}{SUFFIX}")


def _copy(output: str) -> str:
    """Return the folder in a bucket; the lease that `lock` holds lies beside it."""
    return storage.join(f"{output}{SUFFIX}", "kept")


def _empty(folder: str) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
