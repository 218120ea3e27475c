"""Extensions: files outside the project that register a family, a format or a source."""

from __future__ import annotations

import importlib.util
import os
import sys

from preprocessing.errors import UsageError

VARIABLE = "MOBILENET_EXTENSIONS"


def load() -> None:
    """Run the Python files that `MOBILENET_EXTENSIONS` names, separated by `:`, once each.

    Commands and the processes of a pool do, so workers and stages know what their parent knows.

    Raises:
        UsageError: A file is missing or fails; names the file and the failure.
    """
    for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        name = f"{VARIABLE}:{os.path.abspath(path)}"
        if name in sys.modules:
            continue
        try:
            _run(name, path)
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{VARIABLE} names {path}, which cannot be loaded "
                f"({type(error).__name__}: {error}); name Python files, separated by {os.pathsep!r}"
            ) from error


def _run(name: str, path: str) -> None:
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ValueError("its name does not end in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
