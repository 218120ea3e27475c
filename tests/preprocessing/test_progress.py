"""Progress bars fit narrow terminals, and leave logs readable."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.terminals import shown_in_a_terminal

SCRIPT = """
import sys, time
from pipeline.cli.log_setup import configure_logging
from preprocessing.progress import progress_bar
configure_logging(sys.argv[1])
for _ in progress_bar(range(3000), desc="export: comparing", unit=" images"):
    time.sleep(0.0003)
"""


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_a_bar_fits_its_terminal(columns: int) -> None:
    states = shown_in_a_terminal("-c", SCRIPT, "human", columns=columns).split("\r")
    shown = [re.sub(r"\x1b\[\w*", "", state).rstrip("\n") for state in states]
    assert len(shown) > 3, "the bar moves"
    assert "export: comparing" in shown[-2]
    assert "100%" in shown[-2]
    assert max(map(len, shown)) <= columns


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_log_has_a_message_now_and_then(log_format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, log_format], capture_output=True, text=True, check=True
    )
    (line,) = done.stderr.splitlines()
    assert "\r" not in line
    message = json.loads(line)["message"] if log_format == "json" else line
    assert message.startswith("export: comparing: 100% (3000 of 3000 images")
