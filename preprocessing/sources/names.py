"""Names of classes and files that people choose, and what of them a record can carry."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from preprocessing.errors import DataError

MAX_NAMED = 5  # names in one line
# Cc is a control character; Cs is a byte that is not UTF-8 (PEP 383). Spaces of every width,
# joiners and all other letters of people's languages are ordinary.
_REFUSED = {"Cc", "Cs"}


def is_recordable(name: str) -> bool:
    """Return whether a record and a manifest can carry a name."""
    if name.isascii():
        return bool(name) and name.isprintable()
    return _REFUSED.isdisjoint(map(unicodedata.category, name))


def printable(name: str) -> str:
    r"""Return a name with its control characters and other bytes written as `\x1b` or `\udce9`."""
    return "".join(
        character
        if unicodedata.category(character) not in _REFUSED
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in name
    )


def first_of(names: Sequence[str]) -> str:
    """Return the first names, printable, and the number of the others, for one line."""
    named = ", ".join(map(printable, names[:MAX_NAMED]))
    return f"{named} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else named


def checked_name(name: str, where: str) -> str:
    """Return the name of a class if a record and a manifest can carry it.

    Raises:
        DataError: The name is empty, is not UTF-8 or holds control characters.
    """
    if not is_recordable(name):
        raise DataError(
            f"{printable(where)} holds the class '{printable(name)}'; rename it: names must be "
            "printable UTF-8, without control characters"
        )
    return name
