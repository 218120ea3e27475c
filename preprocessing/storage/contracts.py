"""Contracts: frozen dataclasses that cross a chapter, and how parsed JSON becomes one."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any, TypeVar

from preprocessing.errors import PermanentError

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import CoreSchema

T = TypeVar("T")


class ContractError(ValueError):
    """Parsed JSON does not have the form of a contract; the message names the first wrong place."""


class AsText:
    """A mark for `Annotated`: the value is written as its `name` and read by its `parse(text)`."""

    @staticmethod
    def __get_pydantic_core_schema__(kind: Any, handler: Any) -> CoreSchema:
        """Return the schema of a value that is text in JSON."""
        from pydantic_core import core_schema

        def parse(text: str) -> Any:
            try:
                return kind.parse(text)
            except PermanentError as error:
                raise ValueError(str(error)) from None

        return core_schema.no_info_after_validator_function(parse, core_schema.str_schema())


def from_json(kind: type[T], value: Any, name: str) -> T:
    """Return the dataclass `kind` that `value` describes; fields that it does not know are ignored.

    Args:
        kind: The dataclass. Nested dataclasses, tuples, dictionaries, `Literal` and `| None` are
            followed.
        value: Parsed JSON.
        name: The name of the whole in messages, for example `metrics.json`.

    Raises:
        ContractError: A field is missing or has a value of another type.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([name, *(str(part) for part in first["loc"])])
        given = "" if first["type"] == "missing" else f", got {first['input']!r:.60}"
        raise ContractError(f"{place}: {first['msg']}{given}") from None


def to_json(contract: Any) -> dict[str, Any]:
    """Return a dataclass as JSON-able values in the order of its fields, tuples as lists.

    Fields that are None are left out: they belong to what older versions did not write.
    """
    return {
        field.name: _plain(value)
        for field in dataclasses.fields(contract)
        if (value := getattr(contract, field.name)) is not None
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        if hasattr(value, "parse"):
            return value.name  # type: ignore[attr-defined]
        own = getattr(value, "to_json", None)
        return own() if own else to_json(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@functools.cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
