"""TensorFlow is imported without what it takes a long time to import, and does not use here."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import pandas
from pipeline.local.quiet import OPTIONAL, import_tensorflow
import_tensorflow()
assert sys.modules["pandas"] is pandas
print(sorted({name.split(".")[0] for name in sys.modules} & set(OPTIONAL)))
import_tensorflow()
import cv2, IPython, matplotlib, scipy.sparse, sklearn, keras, h5py
print(keras.saving is not None)
"""


def test_large_packages_are_left_out_and_can_be_imported_later() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['pandas']\nTrue\n"
