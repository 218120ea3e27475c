"""Long arrays of integers on the disk of this machine, so that memory does not grow with them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np

CHUNK = 1 << 18  # integers that are in memory at a time


class Spool:
    """An array `[N]` of integers of eight bytes that is only appended to.

    Iterating yields it in parts, as often as wanted. The file has no name, so it vanishes with
    the process.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, it is open as long as this object
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> int:
        self._file.seek(index * self._dtype.itemsize)
        return int(np.frombuffer(self._file.read(self._dtype.itemsize), self._dtype)[0])

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self._length, CHUNK):
            self._file.seek(start * self._dtype.itemsize)
            yield np.frombuffer(self._file.read(CHUNK * self._dtype.itemsize), self._dtype)

    def append(self, values: np.ndarray) -> None:
        """Append `[n]`."""
        self._file.seek(self._length * self._dtype.itemsize)
        self._file.write(values.astype(self._dtype).tobytes())
        self._length += len(values)
