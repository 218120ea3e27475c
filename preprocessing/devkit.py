"""ILSVRC2012's development kit: what validation images show, and what classes are called."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.tar import checked_name, members, open_gzipped, read_member

DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_MAX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Devkit:
    """What ingest needs of it.

    Attributes:
        validation: Synset of validation image 1, 2, ...
        words: Synset to description, like `tench, Tinca tinca`.
    """

    validation: list[str]
    words: dict[str, str]


def read_devkit(path: str) -> Devkit:
    """Read `ILSVRC2012_devkit_t12.tar.gz` in place.

    The ground truth is in ILSVRC2012 ids, which are not labels: `meta.mat` says which
    synset an id stands for, and its order is not the sorted one.

    Raises:
        DataError: It is damaged, or lacks one of the two files.
    """
    files = _read_files(path)
    synsets, words = _read_meta(files[_META], f"{_META} in {path}")
    where = f"{_TRUTH} in {path}"
    validation = []
    for number, line in enumerate(files[_TRUTH].split(), start=1):
        if not line.isdigit() or int(line) not in synsets:
            raise DataError(f"{where} line {number} is {line!r}; expected an id of {_META}")
        validation.append(synsets[int(line)])
    return Devkit(validation, words)


def _read_files(path: str) -> dict[str, bytes]:
    found = {}
    with storage.open_read(path) as stream, open_gzipped(stream, path) as archive:
        for member in members(archive, path):
            for name in (_META, _TRUTH):
                if f"/{member.name}".endswith(f"/{name}") and member.size <= _MAX_BYTES:
                    found[name] = read_member(archive, member)
    for name in (_META, _TRUTH):
        if name not in found:
            raise DataError(f"{path} lacks {name}; fetch the development kit (task 1 and 2) again")
    return found


def _read_meta(content: bytes, where: str) -> tuple[dict[int, str], dict[str, str]]:
    """ILSVRC2012 id to synset, and synset to words, of the classes without children."""
    from scipy.io import loadmat  # half a second; only when there is a kit

    try:
        table = np.atleast_1d(loadmat(io.BytesIO(content), squeeze_me=True)["synsets"])
        synsets, words = {}, {}
        for row in table:
            if int(row["num_children"]) == 0:
                synset = checked_name(str(row["WNID"]), where)
                synsets[int(row["ILSVRC2012_ID"])] = synset
                words[synset] = checked_name(str(row["words"]), where)
    except DataError:
        raise
    except Exception as error:  # SciPy's reader raises whatever it stumbles over
        raise DataError(f"{where} cannot be read ({error}); fetch the kit again") from None
    return synsets, words
