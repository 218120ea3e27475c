"""Network policies, evaluated for one connection as a cluster's network evaluates them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from tests.k8s.conftest import Manifest

Labels = Mapping[str, str]


def may_leave(
    labels: Labels, policies: Iterable[Manifest], address: str, port: int, protocol: str = "TCP"
) -> bool:
    """Return whether a pod may connect to an address that is no pod of the cluster.

    Args:
        labels: The pod's labels.
        policies: The NetworkPolicies of its namespace.
        address: An IPv4 address.
        port: The port.
        protocol: TCP or UDP.
    """
    selecting = _selecting("Egress", labels, policies)
    return not selecting or any(
        _has_port(rule.get("ports"), port, protocol) and _has_address(rule.get("to"), address)
        for spec in selecting
        for rule in spec.get("egress", [])
    )


def may_connect(
    source: Labels,
    target: Labels,
    policies: Iterable[Manifest],
    port: int,
    *,
    source_elsewhere: bool = False,
) -> bool:
    """Return whether a pod may connect to another one by TCP.

    Args:
        source: The labels of the pod that connects.
        target: The labels of the pod that listens.
        policies: The NetworkPolicies of the namespace.
        port: The port.
        source_elsewhere: The source is in another namespace, which has no policies.
    """
    policies = list(policies)
    leaves = source_elsewhere or _is_allowed("Egress", source, target, policies, port, False)
    return leaves and _is_allowed("Ingress", target, source, policies, port, source_elsewhere)


def _is_allowed(
    direction: str,
    labels: Labels,
    peer: Labels,
    policies: Iterable[Manifest],
    port: int,
    peer_elsewhere: bool,
) -> bool:
    rules, peers = {"Egress": ("egress", "to"), "Ingress": ("ingress", "from")}[direction]
    selecting = _selecting(direction, labels, policies)
    return not selecting or any(
        _has_port(rule.get("ports"), port, "TCP")
        and _has_pod(rule.get(peers), peer, peer_elsewhere)
        for spec in selecting
        for rule in spec.get(rules, [])
    )


def _selecting(
    direction: str, labels: Labels, policies: Iterable[Manifest]
) -> list[dict[str, Any]]:
    return [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], labels)
    ]


def _has_pod(peers: list[dict[str, Any]] | None, labels: Labels, elsewhere: bool) -> bool:
    for peer in peers or []:
        assert peer.get("namespaceSelector", {}) == {}, "only all namespaces are evaluated"
    return not peers or any(
        selects(peer["podSelector"], labels) and (not elsewhere or "namespaceSelector" in peer)
        for peer in peers
        if "podSelector" in peer
    )


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Return whether a label selector takes these labels; an empty one takes all."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    for expression in selector.get("matchExpressions", []):
        is_in = labels.get(expression["key"]) in expression["values"]
        assert expression["operator"] in ("In", "NotIn"), expression
        if is_in != (expression["operator"] == "In"):
            return False
    return True


def _has_port(ports: list[dict[str, Any]] | None, port: int, protocol: str) -> bool:
    return not ports or any(
        allowed.get("protocol", "TCP") == protocol
        and allowed.get("port", port) <= port <= allowed.get("endPort", allowed.get("port", port))
        for allowed in ports
    )


def _has_address(peers: list[dict[str, Any]] | None, address: str) -> bool:
    return not peers or any(
        ipaddress.ip_address(address) in ipaddress.ip_network(peer["ipBlock"]["cidr"])
        and not any(
            ipaddress.ip_address(address) in ipaddress.ip_network(excluded)
            for excluded in peer["ipBlock"].get("except", [])
        )
        for peer in peers
        if "ipBlock" in peer
    )
