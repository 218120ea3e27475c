"""Seeded damage to inputs, and the law that damaged inputs are used or refused in one line."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from typing import Any

from preprocessing.errors import PermanentError, RetryError
from preprocessing.images.repair import RejectedImageError

MEMORY_BYTES = 300 << 20  # above what the process had needed before
TOKENS: tuple[bytes, ...] = (
    b"../",
    b"/etc/passwd",
    b"\0" * 9,
    b"\xff" * 5,
    b"-1",
    b"1e9",
    b"9" * 30,
    b"\xf0\x9f",
    b"\xff\xd8\xff",
    b"\xff\xd9",
    b"\n",
    b'"',
    b"<!ENTITY a 'b'>",
    b"&a;",
    b"%s",
)
ODD_VALUES: tuple[Any, ...] = (None, True, -1, 0, 1, 1.5, 10**30, "", "../../x", "x", [], {}, [[]])


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Return content with one to four random edits."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(damaged) + 1)
        length = min(chance.choice((1, 1, 2, 8, 64, 600)), len(damaged) - place)
        kind = chance.randrange(6)
        if kind == 0 and place < len(damaged):
            damaged[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[place : place + length] = chance.randbytes(length)
        elif kind == 2:
            del damaged[place : place + length]
        elif kind == 3:
            damaged[place:place] = damaged[place : place + length]
        elif kind == 4:
            damaged[place : place + length] = chance.choice(TOKENS)
        elif chance.random() < 0.3:
            del damaged[place:]
    return bytes(damaged)


def mutate_json(value: Any, chance: random.Random, odd_values: tuple[Any, ...] = ODD_VALUES) -> Any:
    """Replace, remove or repeat a value somewhere inside."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        if chance.random() < 0.1:
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: mutate_json(value[name], chance, odd_values)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value[:place] + value[place + 1 :]
        changed = mutate_json(value[place], chance, odd_values)
        return [*value[:place], changed, *value[place + 1 :]]
    return chance.choice((*odd_values, f"{value}x", value))


def survive(kind: str, count: int, attempt: Callable[[random.Random], object]) -> dict[str, int]:
    """Run every input of one kind, and report how the inputs ended."""
    ended = {"used": 0, "refused": 0}
    base_bytes = _peak_bytes()
    for number in range(count):
        try:
            attempt(random.Random(f"{kind} {number}"))
            ended["used"] += 1
            message = "used"
        except (PermanentError, RetryError, RejectedImageError) as error:
            ended["refused"] += 1
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{kind} {number}: {type(error).__name__}: {error}") from error
        assert message, f"{kind} {number} is refused without a word"
        assert "\n" not in message, f"{kind} {number}: {message}"
    assert min(ended.values()) > count // 100, f"{ended}: the edits are too wild or too tame"
    assert _peak_bytes() - base_bytes < MEMORY_BYTES
    return ended


def _peak_bytes() -> int:
    """Return the most memory that this process has ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
