"""Changes of a config: `--set section.field=value`, and the differences between two configs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from preprocessing.errors import UsageError, did_you_mean
from preprocessing.storage.contracts import MAX_INTEGER, Json
from training.models.variants import Variant

T = TypeVar("T")


def override(config: T, assignment: str) -> T:
    """Return `config` with one field replaced, for example by `optimizer.momentum=0.8`.

    Raises:
        UsageError: There is no such field (the message names the nearest), or the value has
            another type or is out of its range.
    """
    path, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"--set expects section.field=value, got {assignment!r}")
    return _replace(config, path.strip().split("."), text.strip(), path.strip())


def override_all(config: T, assignments: Iterable[str]) -> T:
    """Return `config` with each `section.field=value` of `assignments`, in order.

    Raises:
        UsageError: An assignment is wrong, see `override`.
    """
    for assignment in assignments:
        config = override(config, assignment)
    return config


def differences(stored: Json, wanted: Json) -> list[str]:
    """Return `field stored (now wanted)` for every leaf that differs between two trees."""
    return [f"{place} {old} (now {new})" for place, old, new in changes(stored, wanted)]


def changes(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield place, old and new value of every leaf that differs between two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from changes(old.get(name), new.get(name), f"{place}.{name}" if place else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from changes(left, right, f"{place}[{index}]")
    elif old != new:
        yield place, old, new


def is_section(value: object) -> bool:
    """Return whether a field of a config has fields of its own."""
    return dataclasses.is_dataclass(value) and not isinstance(value, Variant)


def _replace(config: Any, keys: list[str], text: str, path: str) -> Any:
    key, *rest = keys
    names = [field.name for field in dataclasses.fields(config)]
    if key not in names:
        raise UsageError(f"setting {path}: no such field; {did_you_mean(key, names)}")
    old = getattr(config, key)
    if rest and not is_section(old):
        raise UsageError(f"setting {path}: {key} has no fields of its own")
    if not rest and is_section(old):
        inside = ", ".join(f"{path}.{field.name}" for field in dataclasses.fields(old))
        raise UsageError(f"setting {path} is a section; set one of {inside}")
    new = _replace(old, rest, text, path) if rest else _parse(text, type(old), path)
    return dataclasses.replace(config, **{key: new})


def _parse(text: str, kind: type, path: str) -> Any:
    if kind is Variant:
        return Variant.parse(text)
    if kind is bool:
        if text not in ("true", "false"):
            raise UsageError(f"setting {path} expects true or false, got {text!r}")
        return text == "true"
    try:
        value = kind(text)
    except ValueError:
        raise UsageError(f"setting {path} expects {kind.__name__}, got {text!r:.100}") from None
    if kind is int and abs(value) > MAX_INTEGER:
        raise UsageError(f"setting {path} expects at most {MAX_INTEGER}, got {text!r:.100}")
    return value
