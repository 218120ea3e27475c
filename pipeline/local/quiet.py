"""A quiet import of TensorFlow, which prints messages before any log level applies."""

from __future__ import annotations

import os
import sys
import tempfile

from pipeline.local import interruption


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
        except BaseException:
            chatter.seek(0)
            if not interruption.is_interrupted():
                os.write(stderr, chatter.read())
            raise
        finally:
            if not interruption.is_interrupted():  # then stderr is mute, and stays so
                os.dup2(stderr, 2)
            os.close(stderr)
