"""The texts of strangers stand in pages as they are: no markup, no rows, no links, no scripts."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from pipeline.export import directory
from pipeline.publish import comparison, published_index
from pipeline.publish.pages import index_page, model_card
from pipeline.publish.pages.html_report import report
from pipeline.publish.published_index import PublishedEntry
from preprocessing import storage
from tests.pipeline.an_export import make_export, metrics_of, write_metrics

PLAIN = "PLAINTEXT"
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a | b | c",
    "`code` ``more`` `",
    "`",
    "[text](https://evil.test)",
    "![image](https://evil.test/x.png)",
    "**bold** __bold__ *it* _it_ ~~gone~~",
    "&lt;b&gt; &amp; &copy;",
    "# heading",
    "- item",
    "1. item",
    "1) item",
    "---",
    "===",
    "> quote",
    "a\n\n# b\n\n| c |\n|---|\n",
    "$\\frac$ $$x$$",
    "back\\slash \\* \\",
    "[a]: https://evil.test",
    "<https://evil.test>",
    "{{ 7 * 7 }} {% raw %}",
    "mobilenet_v2_1.0_224",
)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> PublishedEntry:
    export = make_export(tmp_path_factory.mktemp("strangers") / "e")
    return published_index.unpublished_entry(str(export), metrics_of(export))


def with_text(entry: PublishedEntry, text: str) -> PublishedEntry:
    """Return the entry with `text` wherever a stranger may write."""
    assert entry.input_contract
    return dataclasses.replace(
        entry,
        recipe=text,
        host=dataclasses.replace(entry.host, cpu=text, system=text),
        lineage=dataclasses.replace(entry.lineage, records_digest=text, config_digest="c"),
        top1={**entry.top1, text: 0.5},
        file_bytes={text: 1},
        input_contract=dataclasses.replace(entry.input_contract, description=text, crop=text),
        config={"seed": text, text: {text: text}},
    )


def shown(markdown: str) -> str:
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return str(renderer.render(markdown.split("\n---\n\n")[-1]))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("page", [model_card.card, lambda entry: index_page.page([entry])])
def test_a_text_is_shown_as_it_is_in_markdown(
    page: Callable[[PublishedEntry], str], text: str, entry: PublishedEntry
) -> None:
    """A page with the text is the page with a plain word, and the text in its place."""
    line = " ".join(text.split())
    cut = " ".join(text[:12].split())  # digests are cut
    page_of_plain = shown(page(with_text(entry, PLAIN)))
    assert page_of_plain.count(PLAIN) >= 3
    found = shown(page(with_text(entry, text)))
    whole, part = (html.escape(item, quote=False).replace('"', "&quot;") for item in (line, cut))
    assert found in (page_of_plain.replace(PLAIN, whole), _cut(page_of_plain, whole, part))


def _cut(page: str, whole: str, part: str) -> str:
    return page.replace(f"records <code>{PLAIN}</code>", f"records <code>{part}</code>").replace(
        PLAIN, whole
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_a_class_name_is_shown_as_it_is_in_the_report_and_in_comparisons(
    text: str, tmp_path: Path
) -> None:
    line = " ".join(text.split())
    export = make_export(tmp_path / "e")
    (export / directory.LABELS).write_text(f"background\n{line}\none\ntwo\n")
    write_metrics(
        export,
        dataclasses.replace(
            metrics_of(export), files=directory.file_digests(str(export)), recipe=text, digest=""
        ),
    )
    result = comparison.compare(str(export), str(export), "sqlite://")
    rows = shown(comparison.tables(result).partition("\n\n")[2].replace("B only (p", "\n\n(p"))
    assert f"<td>{html.escape(line, quote=False)}".replace('"', "&quot;") in rows
    report(str(export), str(tmp_path / "r.html"), None)
    page = storage.read_bytes(str(tmp_path / "r.html")).decode()
    assert str(html.escape(line)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    assert "<script>" not in page
    assert "<img" not in page
