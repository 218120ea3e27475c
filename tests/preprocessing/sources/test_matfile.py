"""Struct arrays are read as SciPy wrote them, in every form that MATLAB uses."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from preprocessing.sources.matfile import MatFileError, read_structs
from tests.preprocessing.layouts import CLASSES, meta_mat

ROWS = [
    ("n01440764", 3, np.array([1.5, -2.0]), "tench, Tinca tinca"),
    ("", 0, np.zeros(0), "Äpfel ≠ Birnen"),
    ("x", 70000, np.array([[1, 2], [3, 4]], np.int16), "y"),
]


def write(*, compressed: bool) -> bytes:
    table = np.array(
        [ROWS], dtype=[(name, object) for name in ("WNID", "number", "children", "words")]
    )
    packed = io.BytesIO()
    savemat(packed, {"other": [1, 2], "synsets": table}, do_compression=compressed)
    return packed.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
def test_every_value_is_there(compressed: bool) -> None:
    assert read_structs(write(compressed=compressed), "synsets") == [
        {
            "WNID": synset,
            "number": [float(number)],
            "children": list(np.asarray(children, float).ravel("F")),
            "words": words,
        }
        for synset, number, children, words in ROWS
    ]


def test_the_kit_reads_as_scipy_reads_it() -> None:
    expected = loadmat(io.BytesIO(meta_mat()), squeeze_me=True)["synsets"]
    rows = read_structs(meta_mat(), "synsets")
    assert len(rows) == len(expected) == len(CLASSES) + 1
    for row, other in zip(rows, expected, strict=True):
        assert row["WNID"] == other["WNID"]
        assert row["words"] == other["words"]
        assert row["ILSVRC2012_ID"] == [float(other["ILSVRC2012_ID"])]


def test_big_endian_files_are_read() -> None:
    """The file is made by hand, because SciPy writes the byte order of the machine."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    def array(array_class: int, name: bytes, *rest: bytes) -> bytes:
        head = element(6, struct.pack(">II", array_class, 0)) + element(5, struct.pack(">ii", 1, 1))
        return element(14, head + element(1, name) + b"".join(rest))

    number = array(6, b"", element(4, struct.pack(">H", 513)))
    letter = array(4, b"", struct.pack(">HH4s", 2, 4, b"\0A\0\0"))  # inside the tag
    names = element(1, b"a\0b\0")
    table = array(2, b"synsets", struct.pack(">HHi", 4, 5, 2), names, number, letter)
    content = b"MATLAB".ljust(124) + b"\1\0MI" + table
    assert read_structs(content, "synsets") == [{"a": [513.0], "b": "A"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no MAT-file"),
        (b"MATLAB 5.0".ljust(200), "no MAT-file"),
        (write(compressed=False)[:-100], "cut short"),
        (write(compressed=True)[:-10], "cut short"),
        (write(compressed=True)[:128], "holds no synsets"),
    ],
)
def test_what_is_wrong_is_said(content: bytes, message: str) -> None:
    with pytest.raises(MatFileError, match=message):
        read_structs(content, "synsets")


def test_an_array_of_another_kind_is_refused() -> None:
    with pytest.raises(MatFileError, match="no struct array"):
        read_structs(write(compressed=True), "other")
