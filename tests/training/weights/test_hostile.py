"""Checkpoints of strangers are refused in one line, before they need memory or disk."""

from __future__ import annotations

import io
import re
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from pipeline.cli import main
from training.models.architecture import architecture
from training.models.variants import Variant
from training.weights.checkpoint_format import MAX_CHECKPOINT_BYTES
from training.weights.keras_applications import application
from training.weights.slim_checkpoint import GLOBAL_STEP, SHADOW, slim_shapes

VARIANT = Variant.parse("mobilenet_v2_0.35_32")
LAYOUT = architecture(VARIANT, 11)
HEAD = f"{LAYOUT.scope}/{LAYOUT.classifier.scope}/weights"


def save(folder: Path, **changed: np.ndarray) -> Path:
    """Write a checkpoint whose tensors of `changed` are something else."""
    tensors: dict[str, object] = {GLOBAL_STEP: np.int64(3)}
    for name, shape in slim_shapes(LAYOUT).items():
        tensors |= {name: np.ones(shape, np.float32), name + SHADOW: np.ones(shape, np.float32)}
    tensors |= {name.replace("__", "/"): value for name, value in changed.items()}
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "x.ckpt"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.convert_to_tensor(tensors[name]) for name in names],
    )
    return folder / "x.ckpt"


def sparse(path: Path, num_bytes: int) -> Path:
    with open(path, "wb") as stream:
        stream.truncate(num_bytes)
    return path


def large(folder: Path, ending: str) -> Path:
    return sparse(folder / f"x{ending}", MAX_CHECKPOINT_BYTES + 1)


def large_data(folder: Path) -> Path:
    prefix = save(folder)
    sparse(folder / "x.ckpt.data-00000-of-00001", MAX_CHECKPOINT_BYTES + 1)
    return prefix


def cut_data(folder: Path) -> Path:
    prefix = save(folder)
    with open(folder / "x.ckpt.data-00000-of-00001", "r+b") as stream:
        stream.truncate(1000)
    return prefix


def many_members(folder: Path) -> Path:
    with tarfile.open(folder / "x.tgz", "w:gz") as archive:
        for number in range(2000):
            archive.addfile(tarfile.TarInfo(f"file-{number}"))
    return folder / "x.tgz"


def bomb(folder: Path) -> Path:
    member = tarfile.TarInfo("x.ckpt.data-00000-of-00001")
    member.size = 300 << 20
    with tarfile.open(folder / "x.tgz", "w:gz", compresslevel=1) as archive:
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    return folder / "x.tgz"


def keras_file(folder: Path, damage: Callable[[h5py.File, str], None]) -> Path:
    """Write a Keras file in which something has been done to the classifier's bias."""
    path = folder / "x.weights.h5"
    application(VARIANT, 11).save_weights(path)
    with h5py.File(path, "r+") as file:
        found: list[str] = []
        file.visititems(
            lambda name, item: found.append(name) if getattr(item, "shape", None) == (11,) else None
        )
        damage(file, found[0])
    return path


def endless_bias(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_dataset(name, shape=(1 << 40,), dtype="f4", chunks=(1 << 10,))


def bias_elsewhere(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_dataset(name, shape=(11,), dtype="u1", external=[("/etc/passwd", 0, 11)])


def text_bias(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_dataset(name, data=["x"] * 11)


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "large .tgz": (lambda folder: large(folder, ".tgz"), "allowed: 2,147,483,648"),
    "large .h5": (lambda folder: large(folder, ".weights.h5"), "HDF5|allowed"),
    "large data": (large_data, "allowed: 2,147,483,648"),
    "cut data": (cut_data, "promises values of .* but holds 1,000"),
    "step of many": (
        lambda folder: save(folder, global_step=np.zeros(1 << 20, np.int64)),
        "not a whole number",
    ),
    "step of text": (
        lambda folder: save(folder, global_step=np.array("x", object)),
        "not a whole number",
    ),
    "negative step": (lambda folder: save(folder, global_step=np.array(-1)), "is of step -1"),
    "text": (
        lambda folder: save(folder, **{HEAD: np.full((1, 1, 1280, 11), "x", object)}),
        "is string, not float32",
    ),
    "no outputs": (
        lambda folder: save(folder, **{HEAD: np.zeros((1, 1, 1280, 0), np.float32)}),
        "no .* with a classifier",
    ),
    "many members": (many_members, "more than 1,000 members"),
    "bomb": (bomb, "larger than any model"),
    "endless bias": (lambda folder: keras_file(folder, endless_bias), "promises values of"),
    "bias elsewhere": (lambda folder: keras_file(folder, bias_elsewhere), "lies in other files"),
    "bias of text": (lambda folder: keras_file(folder, text_bias), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_one_line_and_nothing_is_kept(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = HOSTILE[name]
    path = make(tmp_path)
    scratch, workdir = tmp_path / "scratch", tmp_path / "run"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    capsys.readouterr()
    base_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = main(
        ["import-checkpoint", str(path), f"--variant={VARIANT.name}", f"--workdir={workdir}"]
    )
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mobilenet:")]
    assert code in (2, 3), lines
    assert len(lines) == 1, lines
    assert re.search(reason, lines[0]), lines
    assert peak_kib - base_kib < 300 << 10
    assert not list(scratch.iterdir())
    assert {item.name for item in workdir.iterdir()} <= {".lock"}
