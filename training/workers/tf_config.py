"""TF_CONFIG as the world writes it: workers, and a chief besides them, with or without ports.

The Training Operator writes it for a TFJob, Vertex AI for a custom job. TensorFlow describes it at
`tf.distribute.cluster_resolver.TFConfigClusterResolver`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from preprocessing.errors import UsageError

CHIEFS = ("chief", "master")  # the second is TensorFlow 1's name of the first
WORKER = "worker"
REFUSED = {
    "evaluator": "`mobilenet evaluate --follow` evaluates beside a run",
    "ps": "this trainer has no parameter servers",
}
DEFAULT_PORT = 2222  # as the Training Operator's
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_IN_BRACKETS = re.compile(r"\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]")
FORM = "{'cluster': {'worker': ['HOST:PORT', ...]}, 'task': {'type': 'worker', 'index': 0}}"


def read(text: str) -> tuple[tuple[str, ...], int]:
    """Return the addresses of all workers, and which of them this process is.

    A chief is worker 0, and the others follow it.

    Args:
        text: The value of TF_CONFIG.

    Returns:
        `HOST:PORT` of each worker, and the index of this one.

    Raises:
        UsageError: The text has another form, names two workers with one address, or asks for
            evaluators or parameter servers.
    """
    try:
        config: Any = json.loads(text)
        cluster = {role: list(addresses) for role, addresses in config["cluster"].items()}
        role, index = str(config["task"]["type"]), int(config["task"]["index"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"TF_CONFIG must be {FORM}, got {text!r} ({error!r})") from None
    _require_known([*cluster, role])
    numbered = [
        (known, number, address)
        for known in (*CHIEFS, WORKER)
        for number, address in enumerate(cluster.get(known, []))
    ]
    places = [(known, number) for known, number, _ in numbered]
    if (role, index) not in places:
        raise UsageError(
            f"TF_CONFIG says that this is {role} {index}, but its cluster has "
            f"{', '.join(f'{known} {number}' for known, number in places) or 'no workers'}"
        )
    workers = tuple(_with_port(address) for *_, address in numbered)
    if len({*workers}) < len(workers):
        raise UsageError(f"TF_CONFIG gives one address to several workers: {', '.join(workers)}")
    return workers, places.index((role, index))


def rewritten(text: str, workers: tuple[str, ...], index: int) -> str:
    """Return a TF_CONFIG with its cluster as one of workers alone."""
    cluster = {"cluster": {WORKER: list(workers)}, "task": {"type": WORKER, "index": index}}
    return json.dumps({**json.loads(text), **cluster})


def _require_known(roles: list[str]) -> None:
    for role in roles:
        if role not in (*CHIEFS, WORKER):
            reason = REFUSED.get(role, "no such role is known")
            raise UsageError(f"TF_CONFIG names {role!r}: {reason}; allowed: chief, worker")


def _with_port(address: Any) -> str:
    """Return `HOST:PORT`; an IPv6 address keeps its brackets."""
    host, colon, port = str(address).rpartition(":")
    if not colon or str(address).endswith("]"):
        host, port = str(address), str(DEFAULT_PORT)
    is_host = isinstance(address, str) and bool(_HOST.fullmatch(host) or _is_ipv6(host))
    if not is_host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"TF_CONFIG has the address {address!r}; allowed: HOST, HOST:PORT, [IPV6] or "
            f"[IPV6]:PORT, without a port {DEFAULT_PORT}"
        )
    return f"{host}:{port}"


def _is_ipv6(host: str) -> bool:
    """Return whether this is an IPv6 address in brackets."""
    if not _IN_BRACKETS.fullmatch(host):
        return False
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True
