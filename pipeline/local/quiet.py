"""A quiet import of TensorFlow, which prints messages before any log level applies."""

from __future__ import annotations

import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow; show what it wrote to stderr only if the import fails."""
    has_gpu = os.path.exists("/dev/nvidiactl")
    level = "1" if has_gpu else "3"  # errors are hidden where they only say that there is no GPU
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", level)
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except Exception:  # not of an interruption
            chatter.seek(0)
            os.write(stderr, chatter.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
