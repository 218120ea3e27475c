"""The command lines of a page: those of its code blocks, and those within its sentences."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PROGRAMS = ("mobilenet", "kubectl", "gcloud", "skaffold", "docker", "make", "pip")
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
COMMENT = re.compile(r"\s+# .*")


def blocks(page: Path) -> list[list[str]]:
    """Return the command lines of each code block, each on one line, without comments."""
    return [
        [" ".join(COMMENT.sub("", line).split()) for line in block.split("\n") if line.strip()]
        for block in BLOCK.findall(page.read_text().replace("\\\n", ""))
    ]


def command_lines(page: Path) -> list[str]:
    """Return every command line of a page that begins with one of `PROGRAMS`, in order."""
    text = page.read_text()
    inline = [" ".join(code.split()) for code in INLINE.findall(BLOCK.sub("", text))]
    lines = [*(line for block in blocks(page) for line in block), *inline]
    return [line for line in lines if line.split(" ")[0] in PROGRAMS]


def words(line: str) -> list[str]:
    """Return the words of a command line as a shell passes them, up to a pipe."""
    return shlex.split(line.partition(" | ")[0])
