"""Rendering: kustomize turns an overlay, its components and one run into manifests per stage."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from pathlib import Path

from pipeline.cluster.backends import registry, tfjob
from pipeline.cluster.backends.backend import Manifest
from pipeline.cluster.spec import RunSpec
from preprocessing import storage
from preprocessing.errors import PermanentError, UsageError, did_you_mean

STAGE_LABEL = "app.kubernetes.io/component"
RUN_LABEL = "mobilenet/run"
ATTEMPT_LABEL = "mobilenet/attempt"
MANIFESTS_LABEL = "mobilenet/manifests"
# What Python raises where a manifest has another form than Kubernetes gives its kind.
DAMAGE = (AttributeError, LookupError, TypeError, ValueError, RuntimeError)
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
# As Docker tells a host from a folder of its own registry.
REGISTRY_HOST = re.compile(r"localhost|.*[.:].*")


def manifests_folder() -> Path:
    """Return the folder `k8s/`: that of the current folder, the checkout's, or the wheel's."""
    folders = (Path.cwd() / "k8s", Path(__file__).parents[2] / "k8s")
    checked_out = (folder for folder in folders if (folder / "base" / "jobs").is_dir())
    return next(checked_out, Path(__file__).parent / "manifests")


def render(overlay: str, components: tuple[str, ...], namespace: str) -> list[Manifest]:
    """Return the stages of `k8s/overlays/OVERLAY/jobs` with `components`, as templates.

    Raises:
        UsageError: The overlay does not exist or still has placeholders, or kustomize is missing.
    """
    root = manifests_folder().resolve()
    overlays = sorted(jobs.parent.name for jobs in (root / "overlays").glob("*/jobs"))
    if overlay not in overlays:
        raise UsageError(f"--overlay {overlay}: {did_you_mean(overlay, overlays)}")
    with storage.temporary_folder("render") as folder:
        build = Path(folder).resolve()
        (build / "kustomization.yaml").write_text(
            _kustomization(build, root, overlay, components, namespace)
        )
        text = _kustomize(build)
    for placeholder in ("gs://BUCKET", "PROJECT/"):
        if placeholder in text:
            raise UsageError(
                f"{root}/overlays/{overlay} still says {placeholder}; put in yours "
                "(docs/operations.md), in a checkout or in a copy of the manifests, ./k8s"
            )
    import yaml

    return [doc for doc in yaml.safe_load_all(text) if doc]


def _kustomization(
    build: Path, root: Path, overlay: str, components: tuple[str, ...], namespace: str
) -> str:
    import yaml

    jobs = root / "overlays" / overlay / "jobs"
    described = yaml.safe_load((jobs / "kustomization.yaml").read_text())
    return yaml.safe_dump(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": namespace,
            "resources": [os.path.relpath(jobs, build)],
            "components": [
                os.path.relpath(root / "components" / component, build) for component in components
            ],
            # Again, because the overlay's do not reach the images of these components.
            "images": described.get("images", []),
        }
    )


def unpinned_images(docs: list[Manifest]) -> list[str]:
    """Return the images in registries that are named by tag, so that they may change.

    An image without a registry's host is one that was loaded into the nodes.
    """
    templates = [template for doc in docs if (template := pod_template(doc))]
    return sorted(
        {
            image
            for template in templates
            for container in template["spec"]["containers"]
            if "/" in (image := container["image"])
            and REGISTRY_HOST.fullmatch(image.partition("/")[0])
            and "@sha256:" not in image
        }
    )


def _kustomize(folder: Path) -> str:
    for program in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(program[0]):
            break
    else:
        raise UsageError(
            "neither kustomize nor kubectl is on PATH, and launching needs one of them: install "
            "kubectl (https://kubernetes.io/docs/tasks/tools)"
        )
    finished = subprocess.run([*program, str(folder)], capture_output=True, text=True, check=False)
    if finished.returncode:
        reason = finished.stderr.strip().splitlines() or ["no reason given"]
        raise PermanentError(
            f"{' '.join(program)} fails: {reason[-1]} (it must be kubectl 1.21 or kustomize 4.0 "
            "or newer)"
        )
    return finished.stdout


def components_of(spec_components: tuple[str, ...], layout: str, queued: bool) -> tuple[str, ...]:
    """Return all components of a run: the chosen ones and those of its layout and queue."""
    base = "cpu" if layout.endswith("cpu") else f"layout-{layout}"
    return (base, *spec_components, *(("kueue",) if queued else ()))


def split(docs: list[Manifest], spec: RunSpec) -> tuple[list[Manifest], dict[str, list[Manifest]]]:
    """Return the manifests that all stages share, and those of each stage, its job first.

    Raises:
        PermanentError: The manifests lack a stage.
    """
    shared = [doc for doc in docs if STAGE_LABEL not in doc["metadata"].get("labels", {})]
    stages: dict[str, list[Manifest]] = {}
    for stage in spec.stages:
        own = [doc for doc in docs if doc["metadata"].get("labels", {}).get(STAGE_LABEL) == stage]
        own.sort(key=lambda doc: doc["kind"] not in registry.kinds())
        if not own or own[0]["kind"] not in registry.kinds():
            raise PermanentError(f"the manifests of overlay {spec.overlay} have no job for {stage}")
        stages[stage] = [copy.deepcopy(doc) for doc in own]
    return shared, stages


def fill(
    stages: dict[str, list[Manifest]], spec: RunSpec, run: str, priority: str | None = None
) -> dict[str, list[Manifest]]:
    """Return the templates with this run's name, variant, recipe, settings and priority.

    The priority is the name of Kueue's class. It is no part of the specification: a run stays the
    same when it becomes urgent.
    """
    filled = copy.deepcopy(stages)
    for stage, docs in filled.items():
        for doc in docs:
            doc["metadata"].setdefault("labels", {})[RUN_LABEL] = run
            template = pod_template(doc)
            if template is None:
                if doc["kind"] == "PodDisruptionBudget":
                    doc["spec"]["minAvailable"] = spec.layout.workers
                continue
            template["metadata"].setdefault("labels", {})[RUN_LABEL] = run
            container = template["spec"]["containers"][0]
            values = {"RUN": run, "VARIANT": spec.variant.name, "RECIPE": spec.recipe}
            for variable in container["env"]:
                variable["value"] = values.get(variable["name"], variable.get("value"))
            if stage == "train":
                if priority:
                    doc["metadata"]["labels"][PRIORITY_LABEL] = priority
                container["args"] += [f"--set={setting}" for setting in spec.settings]
                tfjob.workers(doc)["replicas"] = spec.layout.workers
    return filled


def pod_template(doc: Manifest) -> Manifest | None:
    """Return the pod template of a job; None for other objects."""
    backend = registry.find(doc["kind"])
    return None if backend is None else backend.pod_template(doc)


def attempt_name(run: str, stage: str, attempt: int) -> str:
    """Return the name of all objects of one attempt."""
    return f"{run}-{stage}-{attempt}"


def digest(docs: list[Manifest]) -> str:
    """Return a label's value that tells a stage's manifests from others."""
    return storage.digest_of(docs)[:16]


def attempt(docs: list[Manifest], spec: RunSpec, run: str, number: int) -> list[Manifest]:
    """Return a stage's manifests as the objects of its attempt `number`, the job first."""
    job, *others = copy.deepcopy(docs)
    name = attempt_name(run, job["metadata"]["labels"][STAGE_LABEL], number)
    for doc in (job, *others):
        doc["metadata"]["name"] = name
        doc["metadata"]["labels"][ATTEMPT_LABEL] = str(number)
    job["metadata"]["labels"][MANIFESTS_LABEL] = digest(docs)
    template = registry.of_kind(job["kind"]).pod_template(job)
    template["metadata"]["labels"][ATTEMPT_LABEL] = str(number)
    backend = registry.for_stage(spec.backend, job["metadata"]["labels"][STAGE_LABEL])
    if job["kind"] == tfjob.TFJob.kind:
        job = backend.from_tfjob(job)
    if QUEUE_LABEL in job["metadata"]["labels"]:  # it must not start before Kueue admits it
        backend.set_suspended(job)
    for doc in others:
        if doc["kind"] == "PodDisruptionBudget":
            doc["spec"]["selector"] = {"matchLabels": {backend.job_name_label: name}}
    return [job, *others]
