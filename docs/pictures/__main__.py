"""Make the README's pictures: the demo in a terminal, and its report in a browser.

    .venv/bin/python -m docs.pictures

This runs the demo from its beginning, in `demo/`, which takes a few minutes.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

from tests.browser import programs
from tests.terminals import shown_in_a_terminal

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEMO = ROOT / "demo"
MOBILENET = ".venv/bin/mobilenet"
COLUMNS = 120
SHOWN_STEPS = 2  # of the training, at its beginning and at its end
# A page that shows the picture loads no font from elsewhere; every letter has its place anyway.
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def main() -> None:
    """Run the demo and make both pictures."""
    shutil.rmtree(DEMO, ignore_errors=True)
    written = shown_in_a_terminal(
        MOBILENET, "demo", columns=COLUMNS, folder=ROOT, PYTHONPATH=str(ROOT)
    )
    (HERE / "demo.svg").write_text(terminal(written.replace(f"{ROOT}{os.sep}", "")))
    (HERE / "report.png").write_bytes(page(DEMO / "report.html"))


def terminal(written: str) -> str:
    """Return a picture of what a program wrote, without most steps of the training, as SVG."""
    states = [line.rstrip("\r").split("\r")[-1].rstrip() for line in written.split("\n")]
    *lines, _result = re.sub(r"\n{3,}", "\n\n", "\n".join(states)).strip().split("\n")
    steps = [number for number, line in enumerate(lines) if line.startswith("train: step")]
    left_out = slice(steps[SHOWN_STEPS], steps[-SHOWN_STEPS])
    lines[left_out] = ["..."]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in [f"$ {MOBILENET} demo", *lines]:
        console.print(Text.from_ansi(line), overflow="ellipsis", no_wrap=True)
    return FONTS.sub("", console.export_svg(title="mobilenet demo", unique_id="demo"))


def page(path: Path) -> bytes:
    """Return a picture of the beginning of a page, as PNG with few colors."""
    with programs.started() as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 1700})
        opened.goto(path.as_uri())
        picture = Image.open(io.BytesIO(opened.screenshot())).convert("RGB")
    packed = io.BytesIO()
    picture.quantize(64).save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    main()
