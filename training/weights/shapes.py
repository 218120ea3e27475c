"""Whether a file of weights holds what a network needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preprocessing.errors import DataError


def require_fit(
    subject: str, needed: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]
) -> None:
    """Refuse weights that lack something or have it in another shape.

    Args:
        subject: Start of the message, e.g. `x.ckpt does not fit`.
        needed: Shapes by name.
        found: Shapes by name; more names than needed are fine.

    Raises:
        DataError: Lists all that is missing and all that has the wrong shape.
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
