"""Hooks of MkDocs: pages from other folders, links, and what is generated from the code.

A page asks for generated text by a comment at the end of a line, `<!-- generated: NAME -->`, or
`<!-- generated: contract MODULE.CLASS -->`; the text takes the place of the line. The same page is
read in the repository, where the line says where to find the text, and so its links are those of
the repository; here they lead to the pages of the site.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import inspect
import posixpath
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from pipeline.cli.command import Command
from pipeline.cli.entry_point import parser
from pipeline.cli.registry import COMMANDS
from pipeline.export.formats.registry import EXPORT_FORMATS
from preprocessing.errors import ERRORS, PermanentError
from training.config import RunConfig
from training.config.recipes import RECIPES, configured
from training.config.setting import settings_of
from training.models.variants import Variant

ROOT = Path(__file__).parent.parent
# Pages that lie outside `docs/`: their place in the repository, and in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "k8s/README.md": "manifests.md",
}
CODE = r"^```.*?^```$|`[^`]+`"  # in which nothing is a link
LINK = re.compile(
    rf"(?P<code>{CODE})|(?P<before>\]\(|\bsrc=\")(?P<target>[^)\s\"]+)", re.DOTALL | re.MULTILINE
)
MARK = re.compile(r"^.*<!-- generated: (\w+)(?: (\S+))? -->$", re.MULTILINE)
USAGE_COLUMNS = 80
SHOWN_VARIANT = Variant.parse("mobilenet_v2_1.0_224")
SHOWN_EXAMPLES = 500  # for a recipe that follows the data
GROUPS = {
    "data": "Data",
    "training": "Training",
    "release": "Export and publication",
    "cluster": "Cluster",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of other folders."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write what is generated into a page, and turn its links to those of the site."""
    in_site = {page: source for source, page in ELSEWHERE.items()}
    source = in_site.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    linked = LINK.sub(
        lambda link: link["code"] or link["before"] + _target_in_site(link["target"], source),
        markdown,
    )
    return MARK.sub(lambda mark: _generated(mark[1], mark[2]), linked)


def _target_in_site(target: str, source: str) -> str:
    """Return the target of a link in the site.

    Args:
        target: The target as it is written.
        source: Path of the page in the repository.
    """
    path, hash_sign, anchor = target.partition("#")
    if not path or ":" in path:
        return target
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if path.startswith("docs/"):
        path = path.removeprefix("docs/")
    elif path in ELSEWHERE:
        path = ELSEWHERE[path]
    else:
        raise PluginError(f"{source} links to {target}, which is no page of the site")
    return path + hash_sign + anchor


def _generated(name: str, argument: str | None) -> str:
    if name not in GENERATORS:
        raise PluginError(f"nothing is generated as {name!r}; allowed: {', '.join(GENERATORS)}")
    arguments = [argument] if argument else []
    return "\n".join(GENERATORS[name](*arguments))


def _table(*columns: str) -> list[str]:
    """Return the head of a table, after the empty line that it needs."""
    return ["", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]


def _row(*cells: str) -> str:
    """Return a row, in which a bar outside of code is escaped."""
    lines = (" ".join(cell.split()) for cell in cells)
    escaped = (
        re.sub(r"`[^`]*`|\|", lambda found: "\\|" if found[0] == "|" else found[0], line)
        for line in lines
    )
    return f"| {' | '.join(escaped)} |"


def commands() -> Iterator[str]:
    """Yield every command with its usage and its flags, from the parser."""
    (subparsers,) = (
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    for group, title in GROUPS.items():
        yield from ("", f"## {title}")
        for command in COMMANDS:
            if command.run.__module__.split(".")[2] == group:
                yield from _command(command, subparsers.choices[command.name])


def _command(command: Command, own: argparse.ArgumentParser) -> Iterator[str]:
    own.formatter_class = functools.partial(argparse.HelpFormatter, width=USAGE_COLUMNS)
    first, *others = own.format_usage().removeprefix("usage: ").splitlines()
    summary = command.summary[0].upper() + command.summary[1:]
    yield from ("", f"### mobilenet {command.name}", "", f"{summary}.")
    yield from ("", "```text", first, *(f"    {line.strip()}" for line in others), "```")
    yield from _table("flag", "meaning")
    for action in own._actions:
        if isinstance(action, argparse._HelpAction) or action.dest == "log_format":
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings or [str(action.metavar)])
        choices = f"one of {', '.join(map(str, action.choices))}" if action.choices else ""
        required = "required" if action.required and action.option_strings else ""
        meaning = (action.help or "") % vars(action)
        yield _row(names, "; ".join(part for part in (meaning, choices, required) if part))


def settings() -> Iterator[str]:
    """Yield every setting of the config tree, section by section."""
    for field in dataclasses.fields(RunConfig):
        if not dataclasses.is_dataclass(field.default_factory):
            continue
        section = field.default_factory()
        yield from ("", f"## {field.name}", "", str(inspect.getdoc(section)))
        yield from _table("setting", "default", "allowed", "meaning")
        for setting in settings_of(section, field.name):
            default = _as_text(setting.default) + (f" {setting.unit}" if setting.unit else "")
            yield _row(f"`{setting.name}`", default, setting.allowed, setting.meaning)


def recipes() -> Iterator[str]:
    """Yield every recipe: its docstring, and the settings in which it is not the default."""
    for name, recipe in RECIPES.items():
        yield from ("", f"### {name}", "", str(inspect.getdoc(recipe.build)))
        config = configured(name, SHOWN_VARIANT, num_examples=recipe.num_examples or SHOWN_EXAMPLES)
        changed = [item for item in config.settings() if item.value != item.default]
        if changed:
            yield from _table("setting", "here", "default")
        for item in changed:
            yield _row(f"`{item.name}`", _as_text(item.value), _as_text(item.default))


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def exit_codes() -> Iterator[str]:
    """Yield the exit codes of every command."""
    yield from _table("exit code", "meaning", "in other words")
    yield _row("0", "done", "The result is complete.")
    yield _row(str(PermanentError.exit_code), PermanentError.meaning, "The last line says which.")
    for error in ERRORS:
        yield _row(str(error.exit_code), error.meaning, str(inspect.getdoc(error)))


def contract(place: str) -> Iterator[str]:
    """Yield the fields of a contract, and of the contracts inside it.

    Args:
        place: Dotted name of a dataclass.
    """
    module, _, name = place.rpartition(".")
    for kind in _with_parts(getattr(importlib.import_module(module), name)):
        described = griffe.Docstring(str(inspect.getdoc(kind)), lineno=1).parse("google")
        meanings: dict[str, str] = {}
        hints = typing.get_type_hints(kind)
        for section in described:
            if section.kind is griffe.DocstringSectionKind.attributes:
                meanings = {item.name: item.description for item in section.value}
            elif section.kind is griffe.DocstringSectionKind.text:
                yield from ("", f"**{kind.__name__}**: {section.value}")
        yield from _table("field", "type", "meaning")
        for field in dataclasses.fields(kind):
            shown = _type_text(hints[field.name], str(field.type))
            yield _row(f"`{field.name}`", f"`{shown}`", meanings.get(field.name, ""))


def _type_text(hint: Any, written: str) -> str:
    """Return a field's type as it is written, or its choices."""
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(choice) for choice in typing.get_args(hint))
    return re.sub(r"Annotated\[(\w+), AsText\]", r"\1", written)


def _with_parts(kind: Any) -> list[Any]:
    """Return a dataclass and all those that its fields hold, each once; configs are elsewhere."""
    found = [kind]
    for outer in found:
        hints = list(typing.get_type_hints(outer).values())
        for hint in hints:
            hints += typing.get_args(hint)
            is_part = dataclasses.is_dataclass(hint) and hint not in (RunConfig, Variant)
            if is_part and hint not in found:
                found.append(hint)
    return found


def export_formats() -> Iterator[str]:
    """Yield every export format and its file."""
    yield from _table("format", "file", "may lose of the checkpoint's top-1")
    for item in EXPORT_FORMATS:
        most = item.tolerance.max_top1_loss
        lost = "nothing: the same answers" if most is None else f"{most:g}"
        adjustable = ", or what `--int8-tolerance` says" if item.tolerance.adjustable else ""
        yield _row(f"`{item.name}`", f"`{item.file_of('VARIANT')}`", lost + adjustable)


GENERATORS: dict[str, Callable[..., Iterator[str]]] = {
    function.__name__: function
    for function in (commands, settings, recipes, exit_codes, contract, export_formats)
}
