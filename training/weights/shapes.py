"""The check that a file of weights fits a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preprocessing.errors import DataError


def require_fit(
    subject: str, needed: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]
) -> None:
    """Refuse weights that lack a variable or have one in another shape.

    Args:
        subject: Start of the message, for example `x.ckpt does not fit`.
        needed: Needed shapes by name.
        found: Shapes by name in the file; it may hold more names.

    Raises:
        DataError: The weights do not fit; the message lists all missing variables and wrong shapes.
    """
    missing = [name for name in needed if name not in found]
    wrong = [
        f"{name} is {tuple(found[name])}, needed {tuple(shape)}"
        for name, shape in needed.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if missing or wrong:
        raise DataError(
            f"{subject}: {len(missing)} missing{': ' * bool(missing)}{', '.join(missing)}; "
            f"{len(wrong)} of another shape{': ' * bool(wrong)}{', '.join(wrong)}"
        )
