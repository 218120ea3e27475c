"""Contracts: frozen dataclasses that cross a chapter, and how parsed JSON becomes one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from preprocessing.errors import DataError, PermanentError

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import CoreSchema

T = TypeVar("T")
Json = dict[str, Any]  # a parsed JSON object


class ContractError(DataError):
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


class _Form:
    """A mark for `Annotated`: the JSON form of a value, as pydantic-core describes it."""

    def __init__(self, build: Callable[[Any], CoreSchema]) -> None:
        self._build = build

    def __get_pydantic_core_schema__(self, kind: Any, handler: Any) -> CoreSchema:
        """Return the schema of the value."""
        from pydantic_core import core_schema

        return self._build(core_schema)


MAX_INTEGER = (1 << 63) - 1  # TensorFlow, numpy and MLflow hold no larger ones

WholeNumber = Annotated[
    int, _Form(lambda schema: schema.int_schema(ge=0, le=MAX_INTEGER, strict=True))
]
Count = Annotated[int, _Form(lambda schema: schema.int_schema(ge=1, le=MAX_INTEGER, strict=True))]
Finite = Annotated[float, _Form(lambda schema: schema.float_schema(allow_inf_nan=False))]
Measure = Annotated[float, _Form(lambda schema: schema.float_schema(ge=0, le=1e15))]
Fraction = Annotated[float, _Form(lambda schema: schema.float_schema(ge=0, le=1))]
Sha256 = Annotated[str, _Form(lambda schema: schema.str_schema(pattern="^[0-9a-f]{64}$"))]
# A path below a folder; no part of it begins with a dot, so it does not lead out of the folder.
PathBelow = Annotated[
    str,
    _Form(
        lambda schema: schema.str_schema(
            pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$",
            max_length=200,
        )
    ),
]


@contextlib.contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Add what to do to a ContractError of the block.

    Raises:
        DataError: The content had another form; the message names the first wrong place.
    """
    try:
        yield
    except ContractError as error:
        raise DataError(f"{error}; {remedy}") from None


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
        contract: T = _adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        missing = (problem for problem in problems if problem["type"] == "missing")
        first = next(missing, problems[0])  # a missing field explains more than a wrong one
        *parents, last = [name, *(str(part) for part in first["loc"])]
        if first["type"] == "missing":
            raise ContractError(f"{'.'.join(parents)} lacks {last!r}") from None
        raise ContractError(
            f"{'.'.join([*parents, last])}: {first['msg']}, got {first['input']!r:.60}"
        ) from None
    return contract


def to_json(contract: Any) -> Json:
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
        if hasattr(value, "parse"):  # see AsText
            return getattr(value, "name")  # noqa: B009
        own = getattr(value, "to_json", None)
        return own() if own else to_json(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]
