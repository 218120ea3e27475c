"""TensorFlow is imported without what it takes a long time to import, and does not use here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = (
    "--set=training.total_images=32",
    "--set=training.batch_per_replica=8",
    "--set=loop.steps_per_loop=2",
)
FEW_FORMATS = ("--formats=saved_model,tflite_float32,tflite_int8", "--int8-tolerance=1")
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


CHATTERER = """
import logging, os, sys, threading, time
from pipeline.local import interruption
interruption.listen()
from pipeline.cli import main

logging.basicConfig()

def chatter():
    while True:
        logging.error("the job is gone")
        os.write(2, b"so it is\\n")
        threading.Thread(target=lambda: 1 / 0).start()
        time.sleep(0.01)

threading.Thread(target=chatter, daemon=True).start()
code = main(["prepare", "--source=/nowhere", "--records=/nowhere/records"])
time.sleep(0.3)
interruption.settle(code)
sys.exit(code)
"""


def test_nothing_is_written_below_the_line_that_says_why_a_command_failed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHATTERER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("mobilenet: source /nowhere")


@pytest.mark.slow
def test_only_our_lines_are_on_stderr(records: Path, tmp_path: Path) -> None:
    """Training, evaluation and LiteRT print nothing of their own, at any of their log levels."""
    workdir = f"--workdir={tmp_path / 'run'}"
    for command, said in (
        (
            ("train", "--variant=shallow_1.0_96", "--recipe=demo", workdir, *SHORT),
            "train: step 4/4  ",
        ),
        (("evaluate", workdir), "evaluate: top-1 "),
        (("export", workdir, f"--output={tmp_path / 'export'}", *FEW_FORMATS), "export: "),
    ):
        environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command, f"--records={records}"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        assert any(line.startswith(said) for line in lines)
        assert [line for line in lines if not line.startswith(f"{command[0]}: ")] == []
