"""`certify` measures this machine, and leaves a complete certificate or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.certificate.certify import JSON, PAGE, conclude, extrapolate, summary
from pipeline.certificate.contract import Certificate
from pipeline.certificate.machine import MEBIBYTE, smallest_bytes
from pipeline.cli import main
from preprocessing import storage
from preprocessing.errors import CheckFailedError
from preprocessing.records.schema import MANIFEST
from tests.conftest import Outcome, mobilenet
from tests.emulator import Emulator, in_environment, running_emulator
from tests.pipeline.certificate.a_certificate import CONFIG, GOOD, certificate_of, changed
from tests.pipeline.certificate.test_verdicts import WRONG

COMMAND = (
    "certify",
    "--variant=shallow_0.35_32",
    "--set=training.batch_per_replica=4",
    "--minutes=0.01",
)


@pytest.mark.parametrize("images_per_second", [100.0, 4822.0])
def test_hours_are_images_by_speed_and_cost_follows_the_price(images_per_second: float) -> None:
    run = extrapolate(CONFIG, images_per_second, 2, None)
    assert run.images == 700_000 * 8 * 96
    assert run.hours == pytest.approx(run.images / images_per_second / 3600, abs=0.005)
    assert run.cost is None
    once, twice = (extrapolate(CONFIG, images_per_second, 2, price).cost for price in (1.5, 3.0))
    assert once == pytest.approx(1.5 * run.hours, abs=0.02)
    assert twice == pytest.approx(2 * (once or 0), abs=0.02)


def test_the_summary_has_every_verdict() -> None:
    certificate = certificate_of(GOOD)
    text = summary(certificate)
    for check in certificate.checks:
        assert check.name in text
        assert check.measured in text
    assert "30.97 hours" in text or "31.0 hours" in text


def test_a_new_certificate_replaces_the_old_one(tmp_path: Path) -> None:
    certificate = certificate_of(GOOD)
    for _ in range(2):
        conclude(certificate, str(tmp_path))
        assert sorted(path.name for path in tmp_path.iterdir()) == [PAGE, JSON]
        stored = json.loads((tmp_path / JSON).read_text())
        assert Certificate.from_json(stored, JSON) == certificate


def test_a_certificate_in_a_bucket_is_replaced_too(emulator: Emulator) -> None:
    output = storage.join(emulator.bucket, "certificate")
    certificate = certificate_of(GOOD)
    for _ in range(2):
        conclude(certificate, output)
        assert storage.list_names(output) == [PAGE, JSON]
        stored = storage.read_json(storage.join(output, JSON))
        assert Certificate.from_json(stored, JSON) == certificate


def test_wrong_results_are_certified_and_end_with_exit_code_5(tmp_path: Path) -> None:
    certificate = certificate_of(changed(golden=(WRONG,)))
    with pytest.raises(
        CheckFailedError, match=r"2\.5 instead of 2\.4686.*certificate\.html"
    ) as error:
        conclude(certificate, str(tmp_path))
    assert error.value.exit_code == 5
    assert json.loads((tmp_path / JSON).read_text())["outcome"] == "failed"


@pytest.mark.parametrize(
    ("printed", "expected"),
    [("81559\n", 81559), ("24564\n23034\n", 23034), ("[N/A]\n", None), ("", None)],
)
def test_the_smallest_device_counts(printed: str, expected: int | None) -> None:
    assert smallest_bytes(printed) == (expected and expected * MEBIBYTE)


def test_a_signal_waits_for_what_is_being_written(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from pipeline.certificate.interruption import end_when_interrupted, uninterrupted\n"
        "end_when_interrupted()\n"
        "with uninterrupted():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "    open(sys.argv[1], 'w').write('complete')\n"
        "time.sleep(60)\n"
    )
    path = tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", script, path], timeout=50, check=False)
    assert done.returncode == 143
    assert path.read_text() == "complete"


def refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line of a command that is refused with exit code 2."""
    try:
        code: object = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    assert code == 2, printed.err
    (line,) = printed.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--minutes=0", "'0'"),
        ("--minutes=-3", "'-3'"),
        ("--minutes=nan", "'nan'"),
        ("--minutes=inf", "'inf'"),
        ("--minutes=soon", "'soon'"),
        ("--price-per-hour=-1", "'-1'"),
        ("--price-per-hour=nan", "'nan'"),
        ("--variant=mobilenet_v2_1.0_225x", "mobilenet_v2_1.0_22"),
        ("--recipe=publishd", "did you mean 'published'"),
        ("--set=training.batch_per_replica=0", "batch_per_replica"),
        ("--output=/proc/certificate", "/proc/certificate"),
    ],
)
def test_a_mistake_is_one_line(
    flag: str, words: str, records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"--output={tmp_path}/c"
    assert words in refused("certify", f"--records={records}", output, flag, capsys=capsys)
    assert not (tmp_path / "c").exists()


def test_folders_that_are_none_are_one_line(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for flags, words in (
        ([], "--records"),
        ([f"--records={tmp_path}/no"], "no dataset.json"),
        ([f"--records={tmp_path}"], "no dataset.json"),
        ([f"--records={records}", f"--output={tmp_path}/file"], "is a file"),
        ([f"--records={records}", f"--output={tmp_path}/file/c"], f"{tmp_path}/file"),
    ):
        assert words in refused("certify", *flags, capsys=capsys)


@dataclass(frozen=True)
class Certified:
    """The end of `certify`, and the files that it left in a bucket."""

    outcome: Outcome
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def certified(records: Path) -> Certified:
    with (
        pytest.MonkeyPatch.context() as patch,
        running_emulator() as store,
        in_environment(store, patch),
    ):
        source, output = f"{store.bucket}/records", f"{store.bucket}/certificate"
        storage.upload_folder(str(records), source, last=MANIFEST)
        outcome = mobilenet(
            *COMMAND, f"--records={source}", f"--output={output}", "--price-per-hour=2"
        )
        names = storage.list_names(output)
        return Certified(
            outcome, {name: storage.read_bytes(storage.join(output, name)) for name in names}
        )


@pytest.mark.slow
def test_the_certificate_in_a_bucket_is_complete(certified: Certified) -> None:
    outcome = certified.outcome
    assert outcome.code == 0, outcome.err
    assert list(certified.files) == [PAGE, JSON]
    stored = json.loads(certified.files[JSON])
    assert stored == outcome.result
    certificate = Certificate.from_json(stored, JSON)
    figures = certificate.figures
    assert all(figure.agrees for figure in figures.golden)
    assert figures.precision.training_uses == "float32"  # on a CPU
    assert 0 < (figures.precision.logits_difference or 0) < 1
    real = figures.speed.images_per_second_per_device["real"]
    assert figures.run.images_per_second == pytest.approx(real * figures.speed.devices)
    assert figures.run.cost == pytest.approx(2 * figures.run.hours, abs=0.01)
    assert set(figures.seconds) == {"golden", "first_step", "speed", "precision"}


@pytest.mark.slow
def test_progress_and_verdicts_are_on_stderr(certified: Certified) -> None:
    for number in range(1, 5):
        assert f"certify: {number} of 4" in certified.outcome.err
    assert "passed  golden figures" in certified.outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_certify_leaves_none(
    number: signal.Signals, records: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pipeline", *COMMAND]
    command += [f"--records={records}", f"--output={tmp_path}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "certify: 1 of 4" in line:
                process.send_signal(number)
        assert process.wait() == 143
    assert "interrupted" in lines[-1]
    assert not list(tmp_path.iterdir())
