"""The documentation site: built without warnings, without a broken link, and complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from docs.site_hooks import ELSEWHERE, MARK
from pipeline.cli.entry_point import parser
from pipeline.cli.registry import COMMANDS
from preprocessing.errors import ERRORS, PERMANENT_EXIT_CODES, RETRY_EXIT_CODE
from training.config import RunConfig
from training.config.recipes import RECIPES
from training.models.variants import Variant, published_variants

ROOT = Path(__file__).parent.parent
# Where each page of the site is in the repository.
SOURCES = {page.removesuffix(".md"): ROOT / source for source, page in ELSEWHERE.items()} | {
    page.stem: page for page in (ROOT / "docs").glob("*.md")
}
# What loads something as soon as a page is opened.
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
NOT_LOADED = {"canonical", "prev", "next"}
COMPARED = ("table", "pre", "li", "h1", "h2", "h3")


@dataclass
class PageContent(HTMLParser):
    """What a page of the site holds."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    in_navigation: list[str] = field(default_factory=list)
    elements: Counter[str] = field(default_factory=Counter)  # of the article
    codes: set[str] = field(default_factory=set)
    cells: set[str] = field(default_factory=set)
    _open: list[str] = field(default_factory=list)
    _text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        target = values.get("href") or values.get("src")
        if target and not NOT_LOADED & set(values.get("rel", "").split()):
            self.links.append(target)
            if any((tag, name) in LOADS for name in values):
                self.loaded.append(target)
            if tag == "a" and "md-nav__link" in values.get("class", ""):
                self.in_navigation.append(target)
        if tag == "article" or "article" in self._open:
            self._open.append(tag)
            self.elements[tag] += 1
        if tag in ("code", "td"):
            self._text = ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self.codes.add(self._text)
        if tag == "td":
            self.cells.add(self._text.strip())
        if tag in self._open:
            while self._open.pop() != tag:
                pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert not re.search("WARNING|ERROR", built.stderr), built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, PageContent]:
    """Every page by its name; the page for a missing one has links from the root of a host."""
    read = {}
    for file in site.glob("*.html"):
        if file.name != "404.html":
            read[file.stem] = PageContent()
            read[file.stem].feed(file.read_text())
    return read


def test_every_document_of_the_repository_is_a_page(pages: dict[str, PageContent]) -> None:
    assert set(pages) == set(SOURCES)


def test_every_link_leads_to_a_page_and_a_place_that_exist(
    site: Path, pages: dict[str, PageContent]
) -> None:
    broken, checked = [], 0
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path) or f"{name}.html"
            target = pages.get(path.removesuffix(".html"))
            anchor = unquote(parts.fragment)
            checked += 1
            is_there = path == "." or (site / path).is_file()
            if not is_there or (anchor and (target is None or anchor not in target.ids)):
                broken.append(f"{name}: {link}")
    assert not broken
    assert checked > len(pages)


def test_every_link_of_the_repository_leads_to_a_file() -> None:
    broken, checked = [], 0
    for source in SOURCES.values():
        for target in relative_links(source.read_text()):
            checked += 1
            if not (source.parent / target).exists():
                broken.append(f"{source.relative_to(ROOT)}: {target}")
    assert not broken
    assert checked > 10


def relative_links(markdown: str) -> Iterator[str]:
    for token in MarkdownIt().parse(markdown):
        for child in token.children or ():
            target = str(child.attrs.get("href") or child.attrs.get("src") or "")
            path = target.partition("#")[0]
            if path and ":" not in path:
                yield path


def test_the_navigation_of_every_page_leads_to_every_page(pages: dict[str, PageContent]) -> None:
    for page in pages.values():
        led_to = {urlsplit(link).path.removesuffix(".html") for link in page.in_navigation}
        assert led_to >= set(pages) - {"index"}
        assert led_to & {"index", "."}


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[str, PageContent]) -> None:
    loaded = [target for page in pages.values() for target in page.loaded]
    assert len(loaded) > len(pages)
    assert not [target for target in loaded if urlsplit(target).netloc]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", sheet.read_text()), sheet.name


@pytest.mark.parametrize(
    "name", sorted(name for name, file in SOURCES.items() if not MARK.search(file.read_text()))
)
def test_a_page_has_the_tables_lists_and_headings_that_it_has_in_the_repository(
    name: str, pages: dict[str, PageContent]
) -> None:
    """Two parsers of Markdown disagree about indented lists and missing empty lines."""
    markdown = SOURCES[name].read_text()
    if "\n::: " in markdown:
        return
    tokens = MarkdownIt().enable("table").parse(markdown)
    there = Counter(
        "pre" if token.type in ("fence", "code_block") else token.tag
        for token in tokens
        if token.nesting >= 0
    )
    here = pages[name].elements
    assert {tag: here[tag] for tag in COMPARED} == {tag: there[tag] for tag in COMPARED}


def test_every_command_has_a_section_with_all_its_flags(pages: dict[str, PageContent]) -> None:
    page = pages["commands"]
    for command in COMMANDS:
        assert f"mobilenet-{command.name}" in page.ids
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    assert commands.choices
    for own in dict(commands.choices).values():
        for action in own._actions:
            if action.dest not in ("help", "log_format"):
                for name in action.option_strings or [action.metavar]:
                    assert name in page.codes


def test_every_setting_and_recipe_has_its_place(pages: dict[str, PageContent]) -> None:
    page = pages["settings"]
    settings = RunConfig(
        variant=Variant.parse("mobilenet_v2_1.0_224"), recipe="published"
    ).settings()
    assert settings
    assert {setting.name for setting in settings} <= page.codes
    assert {setting.meaning for setting in settings} <= page.cells
    assert set(RECIPES) <= page.ids


def test_every_exit_code_has_its_place(pages: dict[str, PageContent]) -> None:
    page = pages["commands"]
    codes = {0, *PERMANENT_EXIT_CODES, RETRY_EXIT_CODE}
    assert {str(code) for code in codes} <= page.cells
    assert {error.meaning for error in ERRORS} <= page.cells


def test_every_variant_has_a_row(pages: dict[str, PageContent]) -> None:
    assert set(published_variants()) <= pages["variants"].cells
