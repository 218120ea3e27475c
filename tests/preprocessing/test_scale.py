"""Ten times as many images take ten times the work and no more memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ingest import prepare_command
from benchmarks.measured import run_measured
from benchmarks.photographs import write_archives


@pytest.mark.slow
def test_no_process_grows_with_the_number_of_images(tmp_path: Path) -> None:
    def peak_megabytes(num_images: int) -> float:
        source = tmp_path / f"source-{num_images}"
        write_archives(str(source), num_images, width=32, height=32, quality=75)
        command = prepare_command(
            source, tmp_path / "records", "--workers=2", f"--train-shards={num_images // 200}"
        )
        return run_measured(command).largest_mib

    few, many = peak_megabytes(2_000), peak_megabytes(20_000)
    assert many < 1024
    # Buffers vary by that much; what grows with the number of images is on disk.
    assert many < few + 16
