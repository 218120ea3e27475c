"""Ten times as many images take ten times the work and no more memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.ingest import peak_megabytes_of_session, prepare_command
from benchmarks.photographs import write_archives


@pytest.mark.slow
def test_no_process_grows_with_the_number_of_images(tmp_path: Path) -> None:
    def peak_megabytes(num_images: int) -> float:
        source = tmp_path / f"source-{num_images}"
        write_archives(str(source), num_images, width=32, height=32, quality=75)
        command = prepare_command(
            source, tmp_path / "records", "--workers=2", f"--train-shards={num_images // 200}"
        )
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            return peak_megabytes_of_session(process)

    few, many = peak_megabytes(2_000), peak_megabytes(20_000)
    assert many < 1024
    # Buffers vary by that much; what grows with the number of images is on disk.
    assert many < few + 16
