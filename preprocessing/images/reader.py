"""The reader of planned images: their bytes in plan order, fetched ahead of their use.

On a local disk the kernel is told what comes next. From a bucket, many members of an archive are
fetched by range at the same time, and the next batch while the current one is processed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

from preprocessing import storage
from preprocessing.images.repair import MAX_FILE_BYTES, RejectedImageError
from preprocessing.sources.references import ImageReference

MAX_OPEN_FILES = 64
# Errors that say something of a file; others, such as a lack of memory, are not the image's fault.
OF_ONE_FILE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.EIO, errno.ESTALE}
READ_AHEAD_IMAGES = 32
BATCH_IMAGES, BATCH_BYTES = 64, 16 << 20  # most members of a bucket in one request

# The bytes of an image, or the reason why it has none.
Content = tuple[ImageReference, bytes | RejectedImageError]


def read_images(references: Iterable[ImageReference]) -> Iterator[Content]:
    """Yield each reference with its bytes; all are local or all are remote.

    A file that is not a regular one, cannot be read or was cut after it was listed comes with the
    reason of its rejection.
    """
    references = iter(references)
    first = next(references, None)
    if first is None:
        return
    read = _read_remote if storage.is_remote(first.path) else _read_local
    for reference, content in read(chain([first], references)):
        if isinstance(content, bytes) and len(content) != _readable(reference):
            yield reference, RejectedImageError("its file was cut after it was listed")
        else:
            yield reference, content


def _read_local(references: Iterator[ImageReference]) -> Iterator[Content]:
    opened: OrderedDict[str, int] = OrderedDict()

    def descriptor(path: str) -> int:
        if path in opened:
            opened.move_to_end(path)
        else:
            opened[path] = _open_regular(path)
            if len(opened) > MAX_OPEN_FILES:
                os.close(opened.popitem(last=False)[1])
        return opened[path]

    def announce(reference: ImageReference) -> ImageReference:
        with contextlib.suppress(RejectedImageError, OSError):  # reading it gives the reason
            os.posix_fadvise(
                descriptor(reference.path),
                reference.offset,
                _readable(reference),
                os.POSIX_FADV_WILLNEED,
            )
        return reference

    try:
        queue = deque(announce(reference) for reference in islice(references, READ_AHEAD_IMAGES))
        while queue:
            reference = queue.popleft()
            queue.extend(announce(following) for following in islice(references, 1))
            content: bytes | RejectedImageError
            try:
                number = descriptor(reference.path)
                content = os.pread(number, _readable(reference), reference.offset)
            except RejectedImageError as error:
                content = error
            except OSError as error:
                if error.errno not in OF_ONE_FILE:
                    raise
                content = RejectedImageError(f"cannot be read: {error.strerror}")
            yield reference, content
    finally:
        for descriptor_number in opened.values():
            os.close(descriptor_number)


def _open_regular(path: str) -> int:
    """Open a file without waiting, and refuse pipes, sockets and devices.

    Raises:
        RejectedImageError: It is not a regular file.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise RejectedImageError("not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise RejectedImageError("not a regular file")
    return number


def _read_remote(references: Iterator[ImageReference]) -> Iterator[Content]:
    batches = _batches(references)
    with ThreadPoolExecutor(1) as fetcher:
        batch = next(batches, None)
        pending = fetcher.submit(_fetch, batch) if batch else None
        while batch and pending:
            contents = pending.result()
            following = next(batches, None)
            pending = fetcher.submit(_fetch, following) if following else None
            yield from zip(batch, contents, strict=True)
            batch = following


def _fetch(batch: list[ImageReference]) -> list[bytes]:
    return storage.read_ranges(
        [(reference.path, reference.offset, _readable(reference)) for reference in batch]
    )


def _readable(reference: ImageReference) -> int:
    """Return the number of bytes to read; of a file too large for an image, enough to see that."""
    return min(reference.size, MAX_FILE_BYTES + 1)


def _batches(references: Iterable[ImageReference]) -> Iterator[list[ImageReference]]:
    """Cut the references into runs of limited number and size."""
    batch: list[ImageReference] = []
    num_bytes = 0
    for reference in references:
        if batch and (len(batch) == BATCH_IMAGES or num_bytes + _readable(reference) > BATCH_BYTES):
            yield batch
            batch, num_bytes = [], 0
        batch.append(reference)
        num_bytes += _readable(reference)
    if batch:
        yield batch
