"""The pages' addresses are those that work from where the user is."""

from __future__ import annotations

import socket

import pytest

from pipeline.cluster.status import addresses


def test_outside_the_cluster_a_page_needs_a_port_forward_unless_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as forwarded, socket.socket() as closed:
        for bound in (forwarded, closed):
            bound.bind(("127.0.0.1", 0))
        forwarded.listen()
        ports = [bound.getsockname()[1] for bound in (forwarded, closed)]
        pages = {"A": ("a", ports[0]), "B": ("b", ports[1])}
        monkeypatch.setattr(addresses, "PORTS", pages)
        assert addresses.line("mine", "other") == (
            f"A http://localhost:{ports[0]}; B http://localhost:{ports[1]} after "
            f"`kubectl --context other -n mine port-forward service/b {ports[1]}`"
        )


def test_in_a_pod_the_services_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert addresses.line("mine", None) == (
        "TensorBoard http://tensorboard.mine:6006; MLflow http://mlflow.mine:5000"
    )
