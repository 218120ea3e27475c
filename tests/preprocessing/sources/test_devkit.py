"""ILSVRC2012 ids become synsets through `meta.mat`, and a wrong kit is refused by name."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from scipy.io import savemat

from preprocessing.errors import DataError
from preprocessing.sources.devkit import read_devkit
from tests.preprocessing.layouts import CLASSES, VALIDATION, devkit, meta_mat, tar

TRUTH = b"3\n1\n2\n"


def test_ids_are_not_labels(tmp_path: Path) -> None:
    (tmp_path / "kit").write_bytes(devkit())
    kit = read_devkit(str(tmp_path / "kit"))
    assert kit.validation == list(VALIDATION)
    assert kit.words == {synset: words for synset, (words, _) in CLASSES.items()}


def pack(**files: bytes) -> bytes:
    names = {
        "meta": "kit/data/meta.mat",
        "truth": "kit/data/ILSVRC2012_validation_ground_truth.txt",
    }
    return gzip.compress(tar({names[name]: content for name, content in files.items()}))


def other_mat() -> bytes:
    packed = io.BytesIO()
    savemat(packed, {"elephants": [1, 2]})
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "not a complete .tar.gz"),
        (devkit()[:-30], "not a complete"),
        (pack(truth=TRUTH), "lacks data/meta.mat"),
        (pack(meta=meta_mat()), "lacks data/ILSVRC2012_validation_ground_truth"),
        (pack(meta=meta_mat()[:200], truth=TRUTH), "meta.mat in .* cannot be read"),
        (pack(meta=other_mat(), truth=TRUTH), "cannot be read .*synsets"),
        (pack(meta=meta_mat(), truth=b"3\n4\n"), "line 2 is b'4'; expected an id"),  # inner node
        (pack(meta=meta_mat(), truth=b"3\nx\n"), "line 2 is b'x'"),
    ],
)
def test_what_is_wrong_with_a_kit_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "kit").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_devkit(str(tmp_path / "kit"))
