"""What others have made is pinned by its content, and a run has the same images on every node."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.cluster import launch, render
from pipeline.cluster.spec import COMPONENTS
from tests.k8s import tools
from tests.k8s.conftest import CASES, ROOT, Manifest, built
from tests.pipeline.cluster.conftest import rendered
from tests.pipeline.cluster.rendering import first
from tests.runbook import blocks

REPOSITORY = Path(__file__).parents[3]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
OURS = re.compile(r"(^|/)mobilenet-[a-z-]+:0\.1\.0$")


def images_of(docs: list[Manifest]) -> set[str]:
    """Return every image that manifests name."""
    return set(re.findall(r'"image": "([^"]*)"', json.dumps(docs)))


def test_every_image_that_the_dockerfile_builds_on_has_a_digest() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", DOCKERFILE, re.M))
    named = re.findall(r"^FROM (\S+)|^COPY --from=(\S+)", DOCKERFILE, re.M)
    images = {"".join(pair) for pair in named} - stages
    assert images
    for image in images:
        variable = re.fullmatch(r"\$\{(\w+)\}", image)
        assert DIGEST.search(defaults[variable[1]] if variable else image), image


def test_the_runbook_installs_the_operator_that_the_tests_run() -> None:
    runbook = (REPOSITORY / "docs" / "operations.md").read_text()
    (commit,) = re.findall(r"\?ref=(\w+)", runbook)
    assert commit == tools.commit_of("github.com/kubeflow/training-operator")


def test_beam_starts_in_its_image_with_the_program_of_its_own_version() -> None:
    module = (tools.CONSTRAINTS / "beam_boot" / "go.mod").read_text()
    (program,) = re.findall(r"apache/beam/sdks/v2 v(\S+)", module)
    assert f"apache-beam=={program} " in (REPOSITORY / "constraints" / "ingest.txt").read_text()


@pytest.mark.parametrize(("overlay", "half", "component"), CASES)
def test_images_of_others_have_a_digest(overlay: str, half: str, component: str) -> None:
    images = images_of(list(built(overlay, half, component)))
    assert images
    assert {image for image in images if not OURS.search(image)} == {
        image for image in images if DIGEST.search(image)
    }


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_run_has_the_images_of_its_overlay_whatever_its_components(component: str) -> None:
    run = rendered("--pipeline", f"--with={component}")
    images = images_of([*run.shared, *launch.first_objects(run.record)])
    assert images
    for image in images:
        assert OURS.search(image), image


def test_the_runbook_gives_every_image_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run is warned about until then, and its pods have the same image at every restart."""
    shutil.copytree(ROOT, tmp_path / "k8s")
    registry = "europe-docker.pkg.dev/project/mobilenet"
    for path in (tmp_path / "k8s" / "overlays" / "gke").rglob("*.yaml"):
        text = path.read_text().replace("gs://BUCKET", "gs://bucket")
        path.write_text(text.replace("REGION-docker.pkg.dev/PROJECT/mobilenet", registry))
    monkeypatch.chdir(tmp_path)  # whose manifests come first

    def images() -> tuple[set[str], bool]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run = rendered("--overlay=gke", "--pipeline")
        return images_of(launch.first_objects(run.record)), "a tag may name" in caplog.text

    tagged, warned = images()
    assert warned
    assert not any(DIGEST.search(image) for image in tagged)
    (lines,) = (block for block in blocks(REPOSITORY / "docs" / "operations.md") if has_loop(block))
    loop = "\n".join(lines[lines.index("done") - 2 : lines.index("done") + 1])
    names = ("ingest", "train", "train-gpu", "registry")
    for digit in "12":  # built twice
        references = [f"{registry}/mobilenet-{name}:0.1.0@sha256:{digit * 64}" for name in names]
        written = {"builds": [{"imageName": "any", "tag": tag} for tag in references]}
        (tmp_path / "images.json").write_text(json.dumps(written))
        subprocess.run(["bash", "-ec", loop], cwd=tmp_path, check=True)
        pinned, warned = images()
        assert not warned
        assert pinned == {image.replace(":0.1.0", f"@sha256:{digit * 64}") for image in tagged}


@pytest.mark.parametrize(
    ("image", "warned"),
    [
        ("mobilenet-train:0.1.0", False),
        ("mobilenet-train", False),
        ("folder/mobilenet-train:0.1.0", False),
        ("registry.test/mobilenet-train:0.1.0", True),
        ("registry.test/mobilenet-train", True),
        ("localhost/train:1", True),
        ("registry:5000/train:1", True),
        (f"registry.test/train@sha256:{64 * '1'}", False),
        (f"registry.test/train:0.1.0@sha256:{64 * '1'}", False),
    ],
)
def test_only_a_registrys_image_without_digest_is_warned_of(image: str, warned: bool) -> None:
    job = first(rendered(), "evaluate")
    job["spec"]["template"]["spec"]["containers"][0]["image"] = image
    assert render.unpinned_images([job]) == [image] * warned


def has_loop(block: list[str]) -> bool:
    """Return whether a block of the runbook is the one that pins images."""
    return "done" in block
