"""TF_CONFIG is read once, and only worker-only jobs are accepted."""

from __future__ import annotations

import json

import pytest

from preprocessing.errors import UsageError
from training.cluster import Cluster


def test_without_tf_config_this_is_the_only_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    cluster = Cluster.from_environment()
    assert (len(cluster.workers), cluster.is_chief) == (1, True)


@pytest.mark.parametrize("index", [0, 1])
def test_worker_zero_is_chief(monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    config = {
        "cluster": {"worker": ["a:1", "b:1"]},
        "task": {"type": "worker", "index": index},
        "environment": "cloud",  # as the Training Operator adds
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    cluster = Cluster.from_environment()
    assert (cluster.workers, cluster.is_chief) == (("a:1", "b:1"), index == 0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_any_other_tf_config_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="TF_CONFIG"):
        Cluster.from_environment()
