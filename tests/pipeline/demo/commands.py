"""A small call of every command that is no stage of the demo, and the hosts that the call names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from preprocessing import extensions
from preprocessing.errors import RETRY_EXIT_CODE
from tests import shallow_family
from tests.conftest import Outcome
from tests.k8s import tools
from tests.recorded_network import RecordedNetwork

CLUSTER = "cluster.test"
PUBLISHED = "published.test"
BUCKETS = "storage.googleapis.com"  # whom a path in gs:// names
VARIANT = "mobilenet_v2_0.35_64"
IMAGE = Path(__file__).parents[2] / "data" / "image0.jpg"
SMALL = (
    *("--variant=shallow_0.35_32", "--recipe=demo"),
    "--set=training.batch_per_replica=4",
)


@dataclass(frozen=True)
class Call:
    """A command line of `mobilenet`.

    Attributes:
        arguments: The command and its flags.
        host: The host that they name, which nobody here is.
        port: What a server serves; 0 for one that serves nothing, None for no server.
    """

    arguments: tuple[str, ...]
    host: str | None = None
    port: int | None = None

    def run(self, network: RecordedNetwork, environment: dict[str, str]) -> Outcome:
        """Run it to its end, or a server until it serves."""
        if self.port is None:
            return network.mobilenet(*self.arguments, **environment)
        return network.serve(self.port, *self.arguments, **environment)

    def did_its_job(self, outcome: Outcome) -> bool:
        """Return whether it ended as it should where nobody answers."""
        if self.port is not None:
            return "Traceback" not in outcome.err
        return outcome.code == (RETRY_EXIT_CODE if self.host else 0)


def calls(demo: Path, folder: Path) -> Iterator[Call]:
    """Yield the calls, each of which may use what those before it made.

    Args:
        demo: The output of a demo.
        folder: An empty folder.
    """
    records, export = f"{demo}/records", f"{demo}/exports/{VARIANT}"
    adopted = folder / "adopted"
    shutil.copytree(records, adopted)
    (adopted / "dataset.json").unlink()
    database = f"{folder}/mlflow.db"
    dispatcher = "grpc://localhost:5050"
    yield Call(("variants",))
    yield Call(("recipes",))
    yield Call(("config",))
    yield Call(("plan", *SMALL[:2], "--gpus=8", f"--plot={folder}/plan.svg"))
    yield Call(("adopt", str(adopted)))
    yield Call(("inspect", records, "--verify"))
    yield Call(("diagnose", *SMALL, f"--records={records}", "--steps=1"))
    yield Call(
        ("certify", *SMALL, f"--records={records}", "--minutes=0.01", f"--output={folder}/c")
    )
    yield Call(("runs", str(demo)))
    yield Call(("dashboard", f"{demo}/runs"), port=6006)
    yield Call(
        ("data-service", "--role=dispatcher", "--port=5050", f"--work-dir={folder}/jobs"), port=5050
    )
    yield Call(
        ("data-service", "--role=worker", "--port=5051", f"--dispatcher={dispatcher}"), port=0
    )
    yield Call(
        ("import-checkpoint", export, f"--variant={VARIANT}", f"--workdir={folder}/imported")
    )
    yield Call(("predict", str(IMAGE), f"--model={export}"))
    yield Call(("benchmark", export))
    yield Call(("register", export, f"--registry=sqlite:///{database}"))
    yield Call(("registry", f"--database={database}"), port=5000)
    yield Call(("compare", export, export))
    yield Call(("table", f"--published={demo}/published"))
    yield Call(("table", "--published=gs://bucket/published"), BUCKETS)
    yield Call(("fetch", VARIANT, f"--from=https://{PUBLISHED}", f"--output={folder}/f"), PUBLISHED)
    launch = ("launch", *SMALL, "--overlay=local", "--gpus=0")
    yield Call((*launch, "--render"))
    yield Call((*launch, "--detach"), CLUSTER)
    for name in ("logs", "stop", "resume"):
        yield Call((name, "run"), CLUSTER)
    yield Call(("jobs",), CLUSTER)
    yield Call(("watch",), CLUSTER, port=0)
    yield Call(("doctor",), CLUSTER)


def environment(folder: Path) -> dict[str, str]:
    """Return a kubeconfig that names `CLUSTER`, a PATH with kustomize, and the tests' family.

    Args:
        folder: An empty folder.
    """
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": f"https://{CLUSTER}:6443"}}],
        "users": [{"name": "it", "user": {"token": "none"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    (folder / "bin").mkdir()
    path = tools.kustomize_on_path(folder / "bin")
    return {
        "KUBECONFIG": f"{folder}/kubeconfig",
        "PATH": path,
        extensions.VARIABLE: shallow_family.__file__,
    }
