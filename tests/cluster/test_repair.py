"""A run whose image is missing goes on once the overlay or the registry is repaired."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.cluster.access import until
from tests.cluster.checkouts import make_checkout
from tests.cluster.node.image import PUSHED
from tests.cluster.own import Cluster
from tests.cluster.runs import launching

TO_MISSING = (  # what to replace in the overlay, and by what
    '{name: mobilenet-train, newTag: "0.1.0"}',
    "{name: mobilenet-train, newTag: missing}",
)


def test_an_image_that_is_pushed_later_is_pulled_without_a_new_attempt(
    platform: Cluster, whole: str, tmp_path: Path
) -> None:
    overlay = make_checkout(tmp_path) / "local" / "jobs" / "kustomization.yaml"
    overlay.write_text(overlay.read_text().replace(*TO_MISSING))
    cluster = dataclasses.replace(platform, checkout=tmp_path)
    pushed = platform.pods / PUSHED
    try:
        launched = cluster.mobilenet(*launching("healed", 10, "--detach"))
        assert launched.code == 0, launched.err
        until("it is shown", lambda: "image not pullable" in platform.mobilenet("jobs").out)
        pushed.touch()
        until("it is trained", lambda: platform.is_over("healed", "train"))
    finally:
        pushed.unlink(missing_ok=True)
    assert "train" in platform.state("healed")["done"]
    (job,) = platform.jobs("tfjobs", "healed")
    assert job["metadata"]["labels"]["mobilenet/attempt"] == "1"
    assert platform.mobilenet("stop", "healed").code == 0


def test_a_run_launched_again_uses_the_repaired_image_and_limits_and_says_so(
    platform: Cluster, whole: str, tmp_path: Path
) -> None:
    overlay = make_checkout(tmp_path) / "local" / "jobs" / "kustomization.yaml"
    cluster, run = dataclasses.replace(platform, checkout=tmp_path), "repaired"
    right = overlay.read_text()
    command = launching(run, 10, "--detach")

    def images() -> set[str]:
        return {
            container["image"]
            for pod in cluster.jobs("pods", run)
            for container in pod["spec"]["containers"]
        }

    overlay.write_text(right.replace(*TO_MISSING))
    launched = cluster.mobilenet(*command)
    assert launched.code == 0, launched.err
    until(
        "the obstacle is shown",
        lambda: "image not pullable" in cluster.mobilenet("jobs").out,
    )
    assert images() == {"mobilenet-train:missing"}
    overlay.write_text(right)
    again = cluster.mobilenet(*command, "--deadline-hours=3")
    assert again.code == 0, again.err
    assert "mobilenet-train:missing" in again.err
    assert "deadline_hours" in again.err
    for verb in ("stop", "resume"):
        done = cluster.mobilenet(verb, run, *(("--detach",) if verb == "resume" else ()))
        assert done.code == 0, done.err
    until("it is trained", lambda: cluster.is_over(run, "train"))
    assert "train" in cluster.state(run)["done"], cluster.log(f"{run}-train-*")
    assert "mobilenet-train:0.1.0" in images()
    assert "train: step 10/10" in cluster.log(f"{run}-train-*")
    assert cluster.mobilenet("stop", run).code == 0
