"""TensorFlow and LiteRT without what they print, which would hide this project's lines.

TensorFlow prints messages before any log level applies, and imports Keras, which imports what it
finds of some large packages. Without those its import takes little more than half of the time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from pipeline.local import interruption

# Keras and TensorFlow import these for wrappers and pictures that nothing here uses.
OPTIONAL = ("cv2", "IPython", "matplotlib", "pandas", "scipy", "sklearn")


def import_tensorflow() -> None:
    """Import TensorFlow; show what it wrote to stderr only if the import fails."""
    if "tensorflow" not in sys.modules:
        with _absent(OPTIONAL):
            _import_quietly()


@contextlib.contextmanager
def _absent(packages: tuple[str, ...]) -> Iterator[None]:
    """Let every import of these packages fail that comes before they are imported anyway."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _import_quietly() -> None:
    has_gpu = os.path.exists("/dev/nvidiactl")
    level = "1" if has_gpu else "3"  # errors are hidden where they only say that there is no GPU
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", level)
    with chatter_hidden():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def chatter_hidden() -> Iterator[None]:
    """Hide what libraries print to stderr in this block, unless it fails."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except BaseException:
            chatter.seek(0)
            if not interruption.is_interrupted():
                os.write(stderr, chatter.read())
            raise
        finally:
            if not interruption.is_interrupted():  # then stderr is mute, and stays so
                os.dup2(stderr, 2)
            os.close(stderr)
