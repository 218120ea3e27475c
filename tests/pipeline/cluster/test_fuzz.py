"""Thousands of damaged records, logs, kubeconfigs, manifests and TF_CONFIGs end in one line."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.entry_point import parse
from pipeline.cluster import decide, launch, record, render
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.record import Record
from pipeline.cluster.status import training_progress
from preprocessing.errors import DataError
from tests.fuzzing import mutate, mutate_json, survive
from tests.pipeline.cluster.conftest import LOCAL
from tests.pipeline.cluster.fake_api import serving
from training.workers import tf_config

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 1.5, 10**30, 1e300, float("nan"), 2**63, "", "x", "../../x", "a\nb"),
    *("\ud800", "2026-01-01", "2026-01-01T00:00:00", [], {}, [[]], [None], {"a": 1}),
)


def test_records(cpu_run: launch.Rendered) -> None:
    sound = {**cpu_run.record.to_object()}
    sound["metadata"] = {**sound["metadata"], "resourceVersion": "1"}

    def attempt(chance: random.Random) -> None:
        source = copy.deepcopy(sound)
        part = chance.choice(list(source["data"]))
        if chance.random() < 0.1:
            source["data"] = mutate_json(source["data"], chance, ODD)
        elif chance.random() < 0.3:
            text = mutate(source["data"][part].encode(), chance)
            source["data"][part] = text.decode(errors="replace")
        else:
            value = json.loads(source["data"][part])
            source["data"][part] = json.dumps(mutate_json(value, chance, ODD))
        read = Record.from_object(source)
        json.dumps(read.to_object()).encode()
        decide.decide(read, [], step=0, live_pods=0, now=record.now())
        if stage := read.stage:
            render.attempt(read.stages[stage], read.spec, read.name, 1)

    survive("records", 2000, attempt)


def test_progress() -> None:
    line = (
        "train: step 435/449  loss 0.5927  top-1 0.9882  learning rate 0.00229  479 images/s  "
        "ETA 3 s  validation top-1 0.9833\n"
    )

    def attempt(chance: random.Random) -> None:
        progress = training_progress.parse(mutate(line.encode() * 2, chance).decode("latin1"))
        if progress is None:
            raise DataError("no progress")
        assert 0 <= progress.step < 10**15
        f"{progress.step:,} {progress.loss:.4f} {progress.images_per_second:.0f}"

    survive("progress", 1500, attempt)


CONFIGS = (
    {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}},
    {"cluster": {"chief": ["a"], "worker": ["b", "c"]}, "task": {"type": "chief", "index": 0}},
    {"cluster": {"master": ["a:1"], "worker": ["[::1]:9"]}, "task": {"type": "worker", "index": 0}},
    {"cluster": {"worker": ["[fe80::1]", "[::2]"]}, "task": {"type": "worker", "index": "0"}},
    {"cluster": {"worker": ["a"], "ps": ["p"]}, "task": {"type": "ps", "index": 0}},
    {"cluster": {"worker": ["a"], "evaluator": ["e"]}, "task": {"type": "evaluator", "index": 0}},
)
ODD_ADDRESSES = (
    *("a:", ":1", "a:0", "a:65536", "a:-1", "a:1e3", "a:\u0661", "::1", "[::1", "::1]", "[::1]:"),
    *("[::1]x:1", "[a]:1", "[]:1", "a b:1", "a/b", "http://a:1", "a:1:2", "", " ", "\n", "a\n:1"),
    *("x" * 999, "[::ffff:1.2.3.4]:1", "[fe80::1%eth0]:1", "\x00", "\u00e9", "\ud800"),
)


def test_tf_configs() -> None:
    def attempt(chance: random.Random) -> None:
        config = chance.choice(CONFIGS)
        odd = (*ODD, *ODD_ADDRESSES, *ODD_ADDRESSES)
        text = json.dumps(mutate_json(config, chance, odd))
        if chance.random() < 0.2:
            text = mutate(text.encode(), chance).decode("latin1")
        workers, index = tf_config.read(text)
        assert 0 <= index < len(workers) == len({*workers})
        for address in workers:
            host, _, port = address.rpartition(":")
            assert host
            assert host.isprintable()
            assert " " not in host
            assert 0 < int(port) < 1 << 16
        again = tf_config.rewritten(text, workers, index)
        assert tf_config.read(again) == (workers, index)

    survive("tf_configs", 2500, attempt)


def test_kubeconfigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kubeconfig"
    with serving(path):
        sound = yaml.safe_load(path.read_text())
    sound["users"][0]["user"] |= {"token": "t", "client-key-data": "YQ=="}
    monkeypatch.setenv("KUBECONFIG", str(path))

    def attempt(chance: random.Random) -> None:
        text = yaml.safe_dump(mutate_json(sound, chance, ODD))
        if chance.random() < 0.3:
            text = mutate(text.encode(errors="replace"), chance).decode("latin1")
        path.write_bytes(text.encode(errors="replace"))
        Gateway("mobilenet")

    survive("kubeconfigs", 500, attempt)


@pytest.mark.slow
def test_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlay of the user's own has odd values where Kubernetes expects others."""
    arguments = parse([*LOCAL, "--variant=mobilenet_v2_0.35_32", "--gpus=0", "--workers=2"])
    sound = render.render("local", render.components_of((), "2xcpu", False), "mobilenet")

    def attempt(chance: random.Random) -> None:
        docs = mutate_json(sound, chance, tuple(value for value in ODD if value != "\ud800"))
        monkeypatch.setattr(render, "render", lambda *_: docs)
        rendered = launch.from_arguments(arguments)[0]
        launch.first_objects(rendered.record)

    survive("manifests", 800, attempt)
