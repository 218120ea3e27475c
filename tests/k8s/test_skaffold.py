"""The real skaffold accepts the configuration and puts the images that it built into every pod."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from pipeline.cli.entry_point import parse
from tests.k8s import tools

REPOSITORY = Path(__file__).parents[2]
PROFILES = ("local", "gke")


def skaffold(*arguments: str) -> str:
    """Run skaffold in the repository, with the pinned kustomize; return its stdout."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [str(tools.program("skaffold")), *arguments],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "PATH": tools.kustomize_on_path(Path(folder)),
                "HOME": folder,  # where it writes
                "SKAFFOLD_UPDATE_CHECK": "false",
                "SKAFFOLD_COLLECT_METRICS": "false",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_render_puts_what_was_built_into_every_pod(profile: str, tmp_path: Path) -> None:
    """This includes TFJobs, which skaffold leaves unchanged unless it is told otherwise."""
    config = yaml.safe_load(skaffold("diagnose", "--yaml-only", f"--profile={profile}"))
    artifacts = [artifact["image"] for artifact in config["build"]["artifacts"]]
    built = [{"imageName": name, "tag": f"{name}:just-built"} for name in artifacts]
    (tmp_path / "build.json").write_text(json.dumps({"builds": built}))
    text = skaffold(
        "render",
        f"--profile={profile}",
        f"--build-artifacts={tmp_path}/build.json",
        "--digest-source=tag",
    )
    images = set(re.findall(r"image: (\S+)", text))
    others = {image for image in images if re.fullmatch(r"postgres:.*@sha256:\w{64}", image)}
    assert images - others == {image["tag"] for image in built}
    kinds = {doc["kind"] for doc in yaml.safe_load_all(text) if doc}
    assert {"TFJob", "Job", "Deployment", "Namespace"} <= kinds


@pytest.mark.parametrize("profile", PROFILES)
def test_diagnose_sees_targets_that_the_dockerfile_has(profile: str) -> None:
    config = yaml.safe_load(skaffold("diagnose", "--yaml-only", f"--profile={profile}"))
    stages = re.findall(r"^FROM .* AS (\S+)", (REPOSITORY / "Dockerfile").read_text(), re.M)
    targets = [artifact["docker"]["target"] for artifact in config["build"]["artifacts"]]
    assert set(targets) <= set(stages)
    for artifact, target in zip(config["build"]["artifacts"], targets, strict=True):
        assert artifact["image"].endswith(f"mobilenet-{target}")
    (verify,) = config["verify"]
    assert parse(verify["container"]["args"]).command == "plan"
    assert {forwarded["resourceName"] for forwarded in config["portForward"]} == {
        "tensorboard",
        "mlflow",
    }
