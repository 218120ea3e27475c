"""The flags of the commands that work on a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from pipeline.cli import flags
from pipeline.cluster.backends import registry
from pipeline.cluster.spec import COMPONENTS, LAYOUTS

NAMESPACE = "mobilenet"


def add(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add `launch`, `jobs`, `logs`, `stop`, `resume`, `watch` and `doctor`."""
    _add_launch(command("launch", "train on the cluster, then evaluate, export and publish"))

    jobs = command("jobs", "runs on the cluster: state, step, loss, speed, what hinders them")
    jobs.add_argument("--follow", action="store_true", help="keep the table up to date")
    jobs.add_argument(
        "--format", choices=("table", "json"), default="table", help="of the output [table]"
    )

    logs = command("logs", "what a run's pods say")
    _add_run(logs)
    logs.add_argument("--follow", action="store_true", help="until the run ends")
    logs.add_argument("--worker", type=flags.natural, metavar="N", help="only this one [all]")
    logs.add_argument("--stage", help="prepare, train, evaluate, export or publish [the present]")
    logs.add_argument(
        "--tail", type=flags.natural, default=100, metavar="LINES", help="of each pod [100]"
    )

    stop = command("stop", "take a run's pods away; its checkpoints stay")
    _add_run(stop)
    resume = command("resume", "let a stopped or failed run go on where it was")
    _add_run(resume)
    resume.add_argument("--detach", action="store_true", help="leave the rest to the supervisor")

    watch = command("watch", "supervise runs: next stages, resubmission, deadlines")
    watch.add_argument("run", nargs="*", metavar="RUN", help="[all]")
    watch.add_argument("--stay", action="store_true", help="wait for new runs, without end")

    doctor = command("doctor", "what is wrong with this cluster, and what to do")
    doctor.add_argument("--overlay", default="gke", help="to check against [gke]")
    for each in (jobs, logs, stop, resume, watch, doctor):
        _add_cluster(each)


def _add_launch(launch: argparse.ArgumentParser) -> None:
    what = launch.add_mutually_exclusive_group(required=True)
    what.add_argument("--variant", help="for example mobilenet_v2_1.0_224")
    what.add_argument(
        "--all", action="store_true", help="all 22 variants of MobileNetV2, queued by Kueue"
    )
    launch.add_argument("--recipe", default="published", help=flags.RECIPE_HELP)
    flags.add_set(launch)
    launch.add_argument("--gpus", type=flags.natural, default=8, help="8, or 0 for CPU workers [8]")
    launch.add_argument(
        "--layout", help=f"workers x GPUs each: {', '.join(LAYOUTS)} [{LAYOUTS[0]}]"
    )
    launch.add_argument("--workers", type=flags.positive, default=2, help="with --gpus 0 [2]")
    launch.add_argument("--overlay", default="gke", help="folder of k8s/overlays [gke]")
    launch.add_argument(
        "--with",
        dest="components",
        action="append",
        default=[],
        metavar="COMPONENT",
        help=f"repeatable: {', '.join(COMPONENTS)}",
    )
    launch.add_argument("--queue", action="store_true", help="let Kueue say when it starts")
    launch.add_argument("--backend", choices=registry.names(), default="tfjob", help="[tfjob]")
    launch.add_argument("--pipeline", action="store_true", help="prepare the records first")
    launch.add_argument("--name", help="of the run [from variant and flags]")
    launch.add_argument(
        "--max-attempts",
        type=flags.positive,
        default=5,
        metavar="N",
        help="resubmissions in a row without a new step [5]",
    )
    launch.add_argument(
        "--deadline-hours", type=flags.amount, metavar="H", help="stop it then [never]"
    )
    launch.add_argument(
        "--images-per-second", type=flags.positive, help="of all replicas; gives hours"
    )
    launch.add_argument(
        "--price-per-hour", type=flags.amount, help="of all machines; gives the cost"
    )
    launch.add_argument("--detach", action="store_true", help="leave it to the supervisor")
    launch.add_argument(
        "--dry-run", action="store_true", help="let the cluster check everything, start nothing"
    )
    launch.add_argument(
        "--render", action="store_true", help="print the manifests; needs no cluster"
    )
    _add_cluster(launch)


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="its name, as `mobilenet jobs` shows it")


def _add_cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument("--namespace", default=NAMESPACE, help=f"[{NAMESPACE}]")
    command.add_argument("--context", help="of the kubeconfig [the current one]")
