"""What the cluster commands do; `cli.py` has their flags."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pipeline.cluster import launch as launching
from pipeline.cluster import record, supervise
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.record import Record
from pipeline.cluster.status import logs as pod_logs
from pipeline.cluster.status import runs_table
from preprocessing.errors import PermanentError

Result = dict[str, Any]


def launch(arguments: argparse.Namespace) -> Result | None:
    """`mobilenet launch`."""
    rendered = launching.from_arguments(arguments)
    for each in rendered:
        what = launching.summary(
            each.record.spec,
            each.record.name,
            arguments.images_per_second,
            arguments.price_per_hour,
        )
        print(f"launch: {json.dumps(what)}", file=sys.stderr, flush=True)
    if arguments.render:
        launching.print_manifests(rendered)
        return None
    gateway = _gateway(arguments)
    launching.check(gateway, rendered[0])  # the others differ in names only
    names = [each.record.name for each in rendered]
    if arguments.dry_run:
        return {"checked": names}
    for each in rendered:
        launching.submit(gateway, each)
    if arguments.detach:
        return {"runs": names, "state": "submitted"}
    return _until_end(gateway, names)


def watch(arguments: argparse.Namespace) -> Result:
    """`mobilenet watch`."""
    gateway = _gateway(arguments)
    for name in arguments.run:
        record.read(gateway, name)  # a name that is not there is a mistake, not a wait
    return _until_end(gateway, arguments.run, stay=arguments.stay)


def jobs(arguments: argparse.Namespace) -> Result | None:
    """`mobilenet jobs`."""
    gateway = _gateway(arguments)
    if arguments.follow:
        runs_table.follow(gateway)
        return None
    rows = runs_table.rows(gateway)
    if arguments.format == "json":
        return {"runs": [each.to_dict() for each in rows]}
    runs_table.show(rows)
    return None


def logs(arguments: argparse.Namespace) -> None:
    """`mobilenet logs`."""
    gateway = _gateway(arguments)
    stage = pod_logs.chosen_stage(record.read(gateway, arguments.run), arguments.stage)
    if arguments.follow:
        pod_logs.follow(gateway, arguments.run, stage, arguments.worker)
    else:
        pod_logs.tail(gateway, arguments.run, stage, arguments.worker, arguments.tail)


def stop(arguments: argparse.Namespace) -> Result:
    """`mobilenet stop`."""
    return _result(supervise.stop(_gateway(arguments), arguments.run))


def resume(arguments: argparse.Namespace) -> Result:
    """`mobilenet resume`."""
    gateway = _gateway(arguments)
    resumed = supervise.resume(gateway, arguments.run)
    if arguments.detach:
        return _result(resumed)
    return _until_end(gateway, [arguments.run])


def doctor(arguments: argparse.Namespace) -> Result:
    """`mobilenet doctor`."""
    from pipeline.cluster import doctor as doctors

    findings = doctors.examine(_gateway(arguments), arguments.overlay)
    for each in findings:
        print(each.line(), file=sys.stderr)
    wrong = [each for each in findings if each.wrong]
    if wrong:
        raise PermanentError(f"doctor: {len(wrong)} of {len(findings)} checks found something")
    return {"checks": len(findings), "wrong": 0}


def _gateway(arguments: argparse.Namespace) -> Gateway:
    return Gateway(arguments.namespace, arguments.context)


def _until_end(gateway: Gateway, names: list[str], *, stay: bool = False) -> Result:
    records = supervise.supervise(gateway, names, stay=stay)
    failed = [each for each in records if each.state.outcome == "failed"]
    if failed:
        error = PermanentError(
            "; ".join(f"run {each.name} failed: {each.state.reason}" for each in failed)
        )
        error.exit_code = failed[0].state.exit_code
        raise error
    results = [_result(each) for each in records]
    return results[0] if len(results) == 1 else {"runs": results}


def _result(current: Record) -> Result:
    state = current.state
    return {
        "run": current.name,
        "variant": current.spec.variant,
        "state": state.outcome or ("stopped" if state.stopped else f"{current.stage} submitted"),
        **({"reason": state.reason} if state.reason else {}),
    }
