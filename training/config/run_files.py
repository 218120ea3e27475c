"""Files that describe a run: recipe, variant and settings in TOML, for `--config`."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from typing import Any

import tomli_w

from preprocessing import storage
from preprocessing.errors import UsageError
from training.config.overrides import is_section
from training.config.sections import RunConfig

FILE = "run.toml"
_HEADER = """\
# Every setting of this run, for `mobilenet train --config run.toml --records R --workdir W`.
# `mobilenet config --config run.toml` explains them.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFile:
    """What a file says; None stands for what it leaves open.

    Attributes:
        variant: Name of the variant.
        recipe: Name of the recipe that the settings change.
        assignments: `section.field=value`, as `--set` takes them, in the order of the file.
    """

    variant: str | None
    recipe: str | None
    assignments: tuple[str, ...]


def read(path: str) -> RunFile:
    """Read a file that a person or `written` wrote.

    Raises:
        UsageError: There is no such file, or it is no TOML of this form; names the place.
    """
    if not storage.exists(path):
        raise UsageError(f"--config {path} does not exist")
    try:
        tree = tomllib.loads(storage.read_bytes(path).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path} is not TOML ({error})") from None
    named = {key: tree.pop(key, None) for key in ("variant", "recipe")}
    for key, value in named.items():
        if not isinstance(value, str | None):
            raise UsageError(f"--config {path}: {key} expects a name, got {value!r:.100}")
    return RunFile(
        variant=named["variant"],
        recipe=named["recipe"],
        assignments=tuple(_assignments(tree, path)),
    )


def written(config: RunConfig) -> bytes:
    """Return the file with every setting of a config."""
    tree: dict[str, Any] = {"variant": config.variant.name, "recipe": config.recipe}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if is_section(value):
            tree[field.name] = dataclasses.asdict(value)
        elif field.name not in tree:
            tree[field.name] = value
    return (_HEADER + tomli_w.dumps(tree)).encode()


def _assignments(tree: dict[str, Any], path: str, prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        place = f"{prefix}{key}"
        if isinstance(value, dict):
            found += _assignments(value, path, f"{place}.")
        elif isinstance(value, bool):
            found.append(f"{place}={str(value).lower()}")
        elif isinstance(value, int | float | str):
            found.append(f"{place}={value}")
        else:
            raise UsageError(
                f"--config {path}: {place} expects a number, a text, true or false, "
                f"got {value!r:.100}"
            )
    return found
