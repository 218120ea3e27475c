"""What a person would see wrong on a page of ours, on one screen."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from playwright.sync_api import Browser

from tests.browser import programs

SEEN = (Path(__file__).parent / "looks.js").read_text()
AXE = """
async () => (await axe.run()).violations.flatMap(
  (violation) => violation.nodes.map((node) => `${violation.id}: ${node.html.slice(0, 120)}`))
"""


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A screen: a phone's or a desk's width in CSS pixels, light or dark."""

    width: int
    scheme: Literal["light", "dark"]

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}"


SCREENS = tuple(
    Screen(width=width, scheme=scheme)
    for width in (390, 1280)
    for scheme in ("light", "dark")  # type: tuple[Literal["light", "dark"], ...]
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look at a page.

    Attributes:
        faults: What is wrong, one sentence each.
        brightness: Mean of the picture's pixels, 0 to 1.
        picture: The whole page as a PNG.
    """

    faults: list[str]
    brightness: float
    picture: bytes


def look(browser: Browser, path: Path, screen: Screen) -> Look:
    """Open the page `path`, with every part of it unfolded, and look at it."""
    page = browser.new_page(
        viewport={"width": screen.width, "height": 900}, color_scheme=screen.scheme
    )
    faults: list[str] = []
    address = path.absolute().as_uri()
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url == address or request.url.startswith("data:")
            else faults.append(f"loads {request.url}")
        ),
    )
    try:
        page.goto(address)
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        faults += page.evaluate(SEEN)
        picture = page.screenshot(full_page=True)
        page.evaluate(programs.axe())
        faults += [f"axe {fault}" for fault in page.evaluate(AXE)]
    finally:
        page.close()
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    return Look(faults=faults, brightness=float(pixels.mean()) / 255, picture=picture)
