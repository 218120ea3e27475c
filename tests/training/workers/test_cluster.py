"""TF_CONFIG is read once, only worker-only jobs are accepted, and all workers meet first."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import tensorflow as tf

from pipeline.local.processes import free_ports
from preprocessing.errors import RetryError, UsageError
from training.workers.cluster import Cluster
from training.workers.rendezvous import rendezvous
from training.workers.watchdog import StoppedError


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
        '{"cluster": ["a:1"], "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", 7]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [""]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:70000"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["[xyz:]:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["[::1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["::1:2222"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "x"}}',
        '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}',
        "[]",
        "null",
    ],
)
def test_any_other_tf_config_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="TF_CONFIG"):
        Cluster.from_environment()


@pytest.mark.parametrize("role", ["evaluator", "ps", "coordinator"])
def test_other_roles_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    cluster = {"worker": ["a:1", "b:1"], role: ["c:1"]}
    for task in ({"type": role, "index": 0}, {"type": "worker", "index": 0}):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
        with pytest.raises(UsageError, match=f"TF_CONFIG names '{role}'"):
            Cluster.from_environment()


@pytest.mark.parametrize("chief", ["chief", "master"])
@pytest.mark.parametrize(("role", "index", "number"), [("chief", 0, 0), ("worker", 1, 2)])
def test_a_chief_is_worker_zero(
    monkeypatch: pytest.MonkeyPatch, chief: str, role: str, index: int, number: int
) -> None:
    monkeypatch.setenv(
        "TF_CONFIG",
        json.dumps(
            {
                "cluster": {"worker": ["b", "[::1]"], chief: ["a:1"]},
                "task": {"type": chief if role == "chief" else role, "index": index},
            }
        ),
    )
    cluster = Cluster.from_environment()
    assert cluster.workers == ("a:1", "b:2222", "[::1]:2222")
    assert cluster.index == number
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    assert resolver.cluster_spec().as_dict() == {"worker": list(cluster.workers)}
    assert (resolver.task_type, resolver.task_id) == ("worker", number)


def addresses(count: int) -> tuple[str, ...]:
    return tuple(f"127.0.0.1:{port}" for port in free_ports(count))


def nobody_stops() -> None:
    """Never ask to give up."""


def test_all_workers_meet_whenever_each_of_them_comes() -> None:
    workers = addresses(3)
    arrived = []

    def arrive(index: int) -> None:
        rendezvous(Cluster(workers, index), 30, nobody_stops)
        arrived.append(index)

    threads = [threading.Thread(target=arrive, args=(index,)) for index in range(3)]
    for thread in threads[:2]:
        thread.start()
    assert not arrived  # the third is not there
    threads[2].start()
    for thread in threads:
        thread.join(30)
    assert sorted(arrived) == [0, 1, 2]


@contextlib.contextmanager
def losing(address: str, lost: float, seed: int) -> Iterator[str]:
    """Provide an address that leads to another one, from which a part of the answers is lost."""
    host, _, port = address.rpartition(":")
    draws = random.Random(seed)
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def forward() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    with socket.create_connection((host, int(port)), 1) as behind:
                        behind.settimeout(1)
                        behind.sendall(connection.recv(1000))
                        answer = behind.recv(1000)
                except OSError:
                    connection.close()
                    continue
                if draws.random() < lost:
                    kept.append(connection)  # silent, until the caller gives up
                else:
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.mark.parametrize("seed", range(8))
def test_all_meet_although_answers_are_lost(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Whoever has met all others must not close the door on one that has not heard it."""
    monkeypatch.setattr("training.workers.rendezvous.CALL_SECONDS", 0.15)
    workers = addresses(4)
    arrived: list[int] = []

    def arrive(index: int, seen: tuple[str, ...]) -> None:
        rendezvous(Cluster(seen, index), 30, nobody_stops)
        arrived.append(index)

    with contextlib.ExitStack() as stack:
        threads = []
        for index in range(4):
            seen = tuple(
                address
                if peer == index
                else stack.enter_context(losing(address, 0.5, seed * 100 + index * 10 + peer))
                for peer, address in enumerate(workers)
            )
            threads.append(threading.Thread(target=arrive, args=(index, seen)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(35)
    assert sorted(arrived) == [0, 1, 2, 3]


def test_a_worker_that_was_started_again_is_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker 1 comes, meets worker 0, ends before worker 2 comes, and comes again."""
    workers = addresses(3)
    arrived: list[int] = []

    def arrive(index: int) -> None:
        rendezvous(Cluster(workers, index), 30, nobody_stops)
        arrived.append(index)

    def stop_soon() -> None:
        if time.monotonic() > end:
            raise StoppedError("terminated")

    threads = [threading.Thread(target=arrive, args=(index,)) for index in (0, 1, 2)]
    threads[0].start()
    end = time.monotonic() + 1.0
    with pytest.raises(StoppedError):
        rendezvous(Cluster(workers, 1), 30, stop_soon)
    assert not arrived
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(35)
    assert sorted(arrived) == [0, 1, 2]


def test_who_did_not_come_is_named_at_the_end_of_the_time() -> None:
    workers = addresses(2)
    with pytest.raises(RetryError, match=rf"worker 1 \({workers[1]}\) did not come within 0\.3 s"):
        rendezvous(Cluster(workers, 0), 0.3, nobody_stops)


def test_who_is_waited_for_is_said_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("training.workers.rendezvous.TELL_SECONDS", 0.2)
    workers = addresses(2)
    caplog.set_level("INFO")
    with pytest.raises(RetryError):
        rendezvous(Cluster(workers, 0), 1.0, nobody_stops)
    words = f"waiting for 1 of 2 workers for 0 min: 1 ({workers[1]})"
    assert sum(words in message for message in caplog.messages) >= 2


def test_a_peer_that_is_frozen_or_something_else_is_not_there() -> None:
    """Such a peer accepts connections, like a stopped process, or talks nonsense."""
    workers = addresses(3)
    with socket.create_server(("127.0.0.1", int(workers[1].split(":")[1]))):
        server = socket.create_server(("127.0.0.1", int(workers[2].split(":")[1])))
        threading.Thread(
            target=lambda: server.accept()[0].sendall(b"HTTP/1.1"), daemon=True
        ).start()
        with pytest.raises(RetryError, match=r"worker 1 \(.*\), 2 \(.*\) did not come"):
            rendezvous(Cluster(workers, 0), 0.3, nobody_stops)
        server.close()


def test_a_request_to_stop_ends_the_waiting() -> None:
    def stop() -> None:
        raise StoppedError("terminated")

    with pytest.raises(StoppedError):
        rendezvous(Cluster(addresses(2), 0), 60, stop)
