"""Passwords in addresses, which no message, page or result may repeat."""

from __future__ import annotations

import re

HIDDEN = "***"
_USER_INFO = re.compile(
    r"(\w[\w+.-]*://[^\s:/@]*:)\S*@"
)  # up to the last @, as SQLAlchemy reads it
_PARAMETER = re.compile(r"((?:password|passwd|pwd|token)=)[^&\s'\"]+", re.IGNORECASE)


def without_password(text: str) -> str:
    """Return a text with `***` in place of the passwords of all addresses in it."""
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", _USER_INFO.sub(rf"\g<1>{HIDDEN}@", text))
