"""The whole way of a run in a bucket: every stage reads and writes gs://, as on a cluster.

TensorFlow reads records, checkpoints and events with its own filesystem, as it does on Google's
machines. The figures must be those of the same commands on a disk.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.export import directory, unfinished
from pipeline.local.processes import free_ports
from preprocessing import storage
from preprocessing.records.schema import MANIFEST
from tests.conftest import Outcome, mobilenet
from tests.emulator import Emulator, in_environment, running_emulator
from training.workdir.workdir import Workdir

pytestmark = pytest.mark.slow

TRAIN = (
    "train",
    "--variant=shallow_0.35_32",
    "--recipe=demo",
    "--set=loop.steps_per_loop=2",
    "--set=loop.checkpoint_every_steps=2",
    "--set=loop.evaluate_every_steps=4",
    "--set=loop.histograms_every_steps=4",
    "--set=training.batch_per_replica=8",
    "--set=training.total_images=96",  # 6 steps of two replicas
    "--workers=2",
)
EXPORT = ("--formats=saved_model,frozen_graph",)


@dataclass(frozen=True)
class Place:
    """A folder with records and everything that is made of them, on the disk or in a bucket."""

    folder: str
    environment: dict[str, str]

    def __getattr__(self, name: str) -> str:
        return storage.join(self.folder, name)

    def run(self, *arguments: str) -> Outcome:
        """Run `mobilenet`, which has to succeed."""
        outcome = mobilenet(*arguments, **self.environment)  # type: ignore[arg-type]
        assert outcome.code == 0, outcome.err
        return outcome

    def killed(self, path: str, *arguments: str) -> None:
        """Run `mobilenet` and end it by SIGKILL as soon as `path` has an entry."""
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            env={**os.environ, **self.environment},
            start_new_session=True,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None and not storage.list_names(path):
                time.sleep(0.02)
            assert process.poll() is None, "it ended before it could be killed"
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with (
        pytest.MonkeyPatch.context() as patch,
        running_emulator() as running,
        in_environment(running, patch),
    ):
        yield running


@pytest.fixture(scope="module")
def here(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a trained, evaluated and exported run on the disk."""
    place = Place(str(tmp_path_factory.mktemp("here")), {})
    os.symlink(records, place.records)
    place.run(*TRAIN, f"--records={place.records}", f"--workdir={place.workdir}")
    place.run("export", *stage(place), f"--output={place.export}", *EXPORT)
    return place


@pytest.fixture(scope="module")
def there(records: Path, store: Emulator) -> Place:
    """Return records and a run in a bucket, whose training was killed once."""
    place = Place(f"{store.bucket}/project", store.environment)
    storage.upload_folder(str(records), place.records, last=MANIFEST)
    train = (*TRAIN, f"--records={place.records}", f"--workdir={place.workdir}")
    place.killed(Workdir(place.workdir).checkpoints_folder, *train)
    place.run(*train)
    return place


def stage(place: Place) -> tuple[str, str]:
    return f"--records={place.records}", f"--workdir={place.workdir}"


def test_a_run_there_was_trained_and_evaluated_as_here(here: Place, there: Place) -> None:
    runs = [Workdir(place.workdir) for place in (here, there)]
    assert not storage.exists(runs[1].file(".lease.json"))
    assert len({run.weights_digest(6) for run in runs}) == 1
    evaluations = [place.run("evaluate", *stage(place)).result for place in (here, there)]
    same = ("step", "top1", "top5", "examples")
    assert len({tuple(evaluation[name] for name in same) for evaluation in evaluations}) == 1


def test_a_run_there_is_followed(there: Place) -> None:
    followed = there.run("evaluate", *stage(there), "--follow")
    assert followed.result["step"] == 6


def test_an_export_there_that_was_killed_is_the_one_here(here: Place, there: Place) -> None:
    export = ("export", *stage(there), f"--output={there.export}", *EXPORT)
    kept = storage.join(f"{there.export}{unfinished.SUFFIX}", "kept", unfinished.CHUNKS)
    there.killed(kept, *export)
    assert not directory.is_export(there.export)
    assert "SavedModel, which is finished already" in there.run(*export).err
    exports = [directory.read_metrics(place.export) for place in (here, there)]
    assert exports[0].formats == exports[1].formats
    own = "history.json"  # it has the time of every step
    files = [{k: v for k, v in export.files.items() if k != own} for export in exports]
    assert files[0] == files[1]
    directory.require_intact(there.export, exports[1])
    assert "nothing to do" in there.run(*export).err
    assert storage.list_names(there.folder) == ["export", "records", "workdir"]


def test_images_there_are_classified_by_an_export_there_as_here(here: Place, there: Place) -> None:
    photo = (Path(__file__).parents[1] / "data" / "image0.jpg").read_bytes()
    found = []
    for place in (here, there):
        storage.make_folder(place.photos)
        storage.write_bytes(storage.join(place.photos, "photo.jpg"), photo)
        printed = place.run("predict", place.photos, f"--model={place.export}", "--json").out
        found.append([(row["class"], row["probability"]) for row in json.loads(printed)])
        storage.remove(place.photos)
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_records_there_are_inspected_and_verified(there: Place) -> None:
    outcome = there.run("inspect", there.records, "--verify", f"--output={there.pictures}")
    assert outcome.result["verified"]


def test_a_checkpoint_there_is_imported_into_a_run_there(here: Place, there: Place) -> None:
    """The export's slim checkpoint has the digest of its own weights wherever it lies."""
    for place in (here, there):
        storage.remove(place.imported)
    checkpoint = "export/shallow_0.35_32.ckpt"
    for place in (here, there):
        place.run(
            "import-checkpoint",
            storage.join(place.folder, checkpoint),
            "--variant=shallow_0.35_32",
            f"--workdir={place.imported}",
        )
    assert len({Workdir(place.imported).weights_digest(6) for place in (here, there)}) == 1


def test_the_runs_there_are_listed_as_here(here: Place, there: Place) -> None:
    listed = []
    for place in (here, there):
        rows = json.loads(place.run("runs", "--json", place.folder).out)
        listed.append({row.pop("run"): row for row in rows}[place.workdir])
    assert listed[0] == listed[1]


def test_the_dashboard_shows_both_runs_by_name_with_what_decides_first(
    here: Place, there: Place
) -> None:
    for place, folder in (
        (here, here.workdir),
        (here, here.folder),
        (there, there.workdir),
        (there, there.folder),
    ):
        (port,) = free_ports(1)
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline", "dashboard", folder, f"--port={port}"],
            env={**os.environ, **place.environment},
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                address = f"http://127.0.0.1:{port}/data"
                tags = first_answer(f"{address}/plugin/scalars/tags")
                runs = first_answer(f"{address}/runs")
                assert runs[0] == "workdir"
                assert runs[1:] in ([], ["workdir/follow"])  # of the evaluation beside it
                layout = first_answer(f"{address}/plugin/custom_scalars/layout")
                charts = [chart for part in layout["category"] for chart in part["chart"]]
                assert [chart["title"] for chart in charts[:2]] == ["loss", "top-1"]
                for chart in charts:
                    assert any(
                        re.search(pattern, tag)
                        for pattern in chart["multiline"]["tag"]
                        for tag in tags["workdir"]
                    ), chart
            finally:
                process.kill()


def first_answer(address: str) -> Any:
    """Return what a server answers when it has something to say."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                if found := json.load(answer):
                    return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{address} does not answer"
        time.sleep(0.2)
