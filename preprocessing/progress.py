"""Progress bars on stderr: a live line in a terminal, a message now and then in a log."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

NARROW_COLUMNS = 60
NARROW = "{desc} {percentage:.0f}%|{bar}| {remaining}"
IN_A_LOG = "{desc}: {percentage:.0f}% ({n_fmt} of {total_fmt}{unit}, {rate_fmt}{postfix})"
SECONDS_BETWEEN_MESSAGES = 10.0


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """Return a progress bar that fits where stderr goes.

    Args:
        iterable: What to iterate over, or None to call `update`.
        options: Options of `tqdm`.
    """
    if sys.stderr.isatty():
        narrow = os.get_terminal_size(sys.stderr.fileno()).columns < NARROW_COLUMNS
        return tqdm(
            iterable,
            file=sys.stderr,
            dynamic_ncols=True,
            bar_format=NARROW if narrow else None,
            **options,
        )
    return tqdm(
        iterable,
        file=_Messages(),
        bar_format=IN_A_LOG,
        mininterval=SECONDS_BETWEEN_MESSAGES,
        maxinterval=SECONDS_BETWEEN_MESSAGES,
        **{"delay": 1e-9, **options},  # any delay leaves out the line at 0 %
    )


class _Messages(io.TextIOBase):
    """A file for `tqdm` that turns each state of the bar into a message."""

    def write(self, text: str) -> int:
        """Log `text`, without what `tqdm` adds to overwrite the state before."""
        if line := text.strip():
            logger.info("%s", line)
        return len(text)
