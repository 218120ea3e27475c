"""`mobilenet launch`: render a run, state its cost, let the cluster check it, and submit it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.cluster import record, render
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.api.refusals import ForbiddenError, NameTakenError
from pipeline.cluster.record import Limits, Record, State
from pipeline.cluster.spec import COMPONENTS, GPU_RESOURCE, Layout, RunSpec, check_name
from pipeline.planning.run_plan import Plan
from preprocessing.errors import PermanentError, UsageError, did_you_mean
from preprocessing.records.imagenet import NUM_TRAIN_IMAGES
from training.config import RunConfig
from training.config.recipes import DEFAULT_RECIPE, configured
from training.models.variants import Variant, published_variants

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A run and the objects that it shares with others."""

    record: Record
    shared: list[render.Manifest]


def from_arguments(arguments: argparse.Namespace) -> list[Rendered]:
    """Return the runs that the flags ask for, rendered.

    Raises:
        UsageError: A variant, recipe, setting, layout, overlay or component is wrong.
    """
    if arguments.all and arguments.name:
        raise UsageError("--name names one run; --all makes 22")
    for component in arguments.components:
        if component not in COMPONENTS:
            raise UsageError(f"--with {component}: {did_you_mean(component, COMPONENTS)}")
    if arguments.name:
        check_name(arguments.name)
    layout = Layout.choose(arguments.gpus, arguments.layout, arguments.workers)
    names = (
        [name for name in published_variants() if "_v2_" in name]
        if arguments.all
        else [arguments.variant]
    )
    queued = arguments.queue or arguments.all
    if arguments.priority and not queued:
        raise UsageError("--priority ranks runs in Kueue's queue; add --queue")
    specs = [
        RunSpec(
            variant=Variant.parse(name),
            recipe=arguments.recipe or DEFAULT_RECIPE,
            settings=tuple(arguments.set),
            layout=layout,
            overlay=arguments.overlay,
            components=tuple(sorted(set(arguments.components))),
            backend=arguments.backend,
            queued=queued,
            prepare=arguments.pipeline,
        )
        for name in names
    ]
    for spec in specs:
        config_of(spec)
    docs = render.render(
        arguments.overlay,
        render.components_of(specs[0].components, layout.name, queued),
        arguments.namespace,
    )
    with _damage_told(arguments.overlay):
        unpinned = render.unpinned_images(docs)
    if unpinned:
        logger.warning(
            "launch: a tag may name another image before the run ends: %s; give the overlay their "
            "digests (docs/operations.md)",
            ", ".join(unpinned),
        )
    return [_rendered(spec, docs, arguments) for spec in specs]


def _rendered(
    spec: RunSpec, docs: list[render.Manifest], arguments: argparse.Namespace
) -> Rendered:
    name = arguments.name or spec.default_name
    with _damage_told(spec.overlay):
        shared, stages = render.split(docs, spec)
        filled = render.fill(stages, spec, name, arguments.priority)
        for docs_of_stage in filled.values():
            render.attempt(docs_of_stage, spec, name, 1)
    new = Record(
        name=name,
        spec=spec,
        limits=Limits(max_attempts=arguments.max_attempts, deadline_hours=arguments.deadline_hours),
        stages=filled,
        state=State(since=record.now().isoformat()),
    )
    return Rendered(new, shared)


@contextlib.contextmanager
def _damage_told(overlay: str) -> Iterator[None]:
    """Turn what the block raises for manifests of another form into one line."""
    try:
        yield
    except render.DAMAGE as error:
        raise UsageError(
            f"the manifests of overlay {overlay} have another form than those in k8s/base "
            f"({type(error).__name__}: {error!s:.100}); repair them"
        ) from error


def config_of(spec: RunSpec, num_examples: int = NUM_TRAIN_IMAGES) -> RunConfig:
    """Return the run's config; refuse what `mobilenet train` would refuse in the pod."""
    return configured(spec.recipe, spec.variant, spec.settings, num_examples)


def summary(
    spec: RunSpec,
    name: str,
    num_examples: int,
    images_per_second: int | None,
    price_per_hour: float | None,
) -> dict[str, Any]:
    """Return the plan of a run and, with the two figures, its cost."""
    if price_per_hour is not None and images_per_second is None:
        raise UsageError("--price-per-hour needs --images-per-second to know the hours")
    plan = Plan(
        config=config_of(spec, num_examples),
        num_replicas=spec.layout.replicas,
        num_examples=num_examples,
    )
    figures = plan.summary(images_per_second, price_per_hour)
    kept = ("recipe", "replicas", "global_batch", "steps", "hours", "cost")
    return {
        "run": name,
        "variant": spec.variant.name,
        "layout": spec.layout.name,
        "gpus": spec.layout.gpus,
        "backend": spec.backend,
        "stages": list(spec.stages),
        **{key: figures[key] for key in kept if key in figures},
    }


def first_objects(run: Record) -> list[render.Manifest]:
    """Return all objects of the first attempts of all stages."""
    return [
        doc
        for stage in run.spec.stages
        for doc in render.attempt(run.stages[stage], run.spec, run.name, 1)
    ]


def check(gateway: Gateway, rendered: Rendered) -> None:
    """Let the cluster check every object of a run strictly, without keeping any.

    Raises:
        PermanentError: The cluster refuses an object, or its quota can never hold the run.
    """
    record.require_room(rendered.record)
    for doc in (rendered.record.to_object(), *rendered.shared, *first_objects(rendered.record)):
        try:
            gateway.create(doc, dry_run=True)
        except NameTakenError:
            continue  # it belongs to an earlier launch of this run, which `submit` finds
    require_platform(gateway, rendered)
    require_priority(gateway, rendered.record)
    require_quota(gateway, rendered.record.spec)


def require_platform(gateway: Gateway, rendered: Rendered) -> None:
    """Refuse a run whose pods name an account, a volume or a queue that is missing.

    Raises:
        UsageError: Something is missing; the message names it and the command that installs it.
    """
    wanted: set[tuple[str, str]] = set()
    for doc in first_objects(rendered.record):
        template = render.pod_template(doc)
        if template is None:
            continue
        wanted.add(("ServiceAccount", template["spec"]["serviceAccountName"]))
        for volume in template["spec"]["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                wanted.add(("PersistentVolumeClaim", claim["claimName"]))
    if rendered.record.spec.queued:
        wanted.add(("LocalQueue", _queue_name(rendered.record)))
    shared = {(doc["kind"], doc["metadata"]["name"]) for doc in rendered.shared}
    for kind, name in sorted(wanted - shared):
        if gateway.get(kind, name) is None:
            raise UsageError(
                f"namespace {gateway.namespace} has no {kind} {name}; install the platform: "
                f"kubectl apply --server-side -k k8s/overlays/{rendered.record.spec.overlay}"
                "/platform"
            )


def require_priority(gateway: Gateway, run: Record) -> None:
    """Refuse a priority class that the cluster lacks: Kueue would never look at the run.

    Raises:
        UsageError: There is no such class.
    """
    name = run.stages["train"][0]["metadata"]["labels"].get(render.PRIORITY_LABEL)
    if name is None:
        return
    try:
        missing = gateway.get("WorkloadPriorityClass", name) is None
    except ForbiddenError:  # classes belong to the cluster, which the Role `launcher` does not
        return
    if missing:
        raise UsageError(
            f"--priority {name}: the cluster has no such WorkloadPriorityClass; see kubectl get "
            "workloadpriorityclasses (k8s/components/kueue-queue has two)"
        )


def _queue_name(run: Record) -> str:
    labels = run.stages["train"][0]["metadata"]["labels"]
    return str(labels[render.QUEUE_LABEL])


def require_quota(gateway: Gateway, spec: RunSpec) -> None:
    """Refuse a run that the namespace's GPU quota could never hold.

    Raises:
        PermanentError: The quota is too small; the message names it.
    """
    for quota in gateway.find("ResourceQuota"):
        allowed = quota["spec"].get("hard", {}).get(f"requests.{GPU_RESOURCE}")
        if allowed is not None and spec.layout.gpus > int(allowed):
            raise PermanentError(
                f"no quota: the run needs {spec.layout.gpus} GPUs, ResourceQuota "
                f"{quota['metadata']['name']} allows {allowed}; raise it (k8s/base/platform)"
            )


def submit(gateway: Gateway, rendered: Rendered) -> Record:
    """Write a run's record to the cluster; the supervisor does the rest."""
    for doc in rendered.shared:
        try:
            gateway.create(doc)
        except NameTakenError:
            continue  # shared objects are named after their content
    return record.create(gateway, rendered.record)


def print_manifests(all_rendered: list[Rendered]) -> None:
    """Print the manifests as YAML on stdout."""
    import yaml

    docs: list[render.Manifest] = []
    for rendered in all_rendered:
        docs += [doc for doc in rendered.shared if doc not in docs]
        docs += first_objects(rendered.record)

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    yaml.dump_all(docs, sys.stdout, Dumper=Plain, sort_keys=False)
