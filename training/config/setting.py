"""Settings: the range, unit, choices and meaning of a config field, and the one validator."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any

from preprocessing.errors import UsageError


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a number may have.

    Attributes:
        low: The lower bound.
        high: The upper bound.
        low_included: Whether `low` itself is allowed.
        high_included: Whether `high` itself is allowed.
    """

    low: float
    high: float = math.inf
    low_included: bool = True
    high_included: bool = True

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.low_included else value > self.low
        below = value <= self.high if self.high_included else value < self.high
        return above and below and abs(value) != math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f">= {self.low:g}" if self.low_included else f"> {self.low:g}"
        brackets = ("[" if self.low_included else "(", "]" if self.high_included else ")")
        return f"{brackets[0]}{self.low:g}, {self.high:g}{brackets[1]}"

    @property
    def rule(self) -> str:
        """The end of the sentence `NAME must ...`."""
        if not math.isinf(self.high):
            return f"be in {self}"
        if self.low == 0 and self.low_included:
            return "not be negative"
        return "be positive"


FRACTION = Range(0, 1)
FRACTION_BELOW_1 = Range(0, 1, high_included=False)
POSITIVE = Range(0, low_included=False)
POSITIVE_FRACTION = Range(0, 1, low_included=False)
NOT_NEGATIVE = Range(0)
AT_LEAST_1 = Range(1)


def setting(
    default: Any, meaning: str, allowed: Range | None = None, *, unit: str | None = None
) -> Any:
    """Return a dataclass field with its documentation.

    Args:
        default: The value of the published recipe.
        meaning: One sentence for people.
        allowed: The range of a number; choices of a text are its `Literal` type.
        unit: The unit of a number, if its name does not have it.
    """
    return dataclasses.field(
        default=default, metadata={"meaning": meaning, "range": allowed, "unit": unit}
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting of a config, as `mobilenet config` lists it.

    Attributes:
        name: `section.field`, as `--set` takes it.
        allowed: The range or the choices.
        unit: None where the name has the unit, or there is none.
    """

    name: str
    value: Any
    default: Any
    allowed: str
    unit: str | None
    meaning: str


def validate(section: Any, name: str) -> None:
    """Refuse a section with a value outside its range or choices.

    Args:
        section: An instance of a dataclass whose fields are made by `setting`.
        name: The section's name in messages.

    Raises:
        UsageError: The message names the field, what is allowed and the value.
    """
    for field in dataclasses.fields(section):
        value, allowed = getattr(section, field.name), field.metadata["range"]
        if allowed is not None and value not in allowed:
            raise UsageError(f"{name}.{field.name} must {allowed.rule}, got {value}")
        choices = _choices(type(section), field.name)
        if choices and value not in choices:
            raise UsageError(
                f"{name}.{field.name} must be one of {', '.join(choices)}, got {value!r}"
            )


def settings_of(section: Any, name: str) -> list[Setting]:
    """Return the settings of one section of a config.

    Args:
        section: An instance of a dataclass whose fields are made by `setting`.
        name: The section's name.
    """
    return [
        Setting(
            name=f"{name}.{field.name}",
            value=getattr(section, field.name),
            default=field.default,
            allowed=_allowed(section, field),
            unit=field.metadata["unit"],
            meaning=field.metadata["meaning"],
        )
        for field in dataclasses.fields(section)
    ]


def _allowed(section: Any, field: dataclasses.Field[Any]) -> str:
    if isinstance(field.default, bool):
        return "true, false"
    choices = _choices(type(section), field.name)
    return ", ".join(choices) if choices else str(field.metadata["range"])


def _choices(kind: type, name: str) -> tuple[str, ...]:
    """Return the choices of a field whose type is a `Literal`."""
    hint = typing.get_type_hints(kind)[name]
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
