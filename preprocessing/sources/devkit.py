"""ILSVRC2012's development kit: classes of the validation images, and descriptions of classes."""

from __future__ import annotations

from dataclasses import dataclass

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.sources.matfile import MatFileError, read_structs
from preprocessing.sources.names import checked_name
from preprocessing.sources.tar import members, open_gzipped, read_member

DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_MAX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Devkit:
    """The part of the kit that ingest needs.

    Attributes:
        validation: Synsets of validation images 1, 2, ...
        words: Descriptions by synset, such as `tench, Tinca tinca`.
    """

    validation: list[str]
    words: dict[str, str]


def read_devkit(path: str) -> Devkit:
    """Read `ILSVRC2012_devkit_t12.tar.gz` in place.

    The ground truth consists of ILSVRC2012 ids, which are not labels: `meta.mat` gives the synset
    of an id, and its order is not the sorted one.

    Raises:
        DataError: The kit is damaged, or lacks one of the two files.
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
    files = {}
    with storage.open_read(path) as stream, open_gzipped(stream, path) as archive:
        for member in members(archive, path):
            for name in (_META, _TRUTH):
                if f"/{member.name}".endswith(f"/{name}") and member.size <= _MAX_BYTES:
                    files[name] = read_member(archive, member)
    for name in (_META, _TRUTH):
        if name not in files:
            raise DataError(f"{path} lacks {name}; fetch the development kit (task 1 and 2) again")
    return files


def _read_meta(content: bytes, where: str) -> tuple[dict[int, str], dict[str, str]]:
    """Return synsets by ILSVRC2012 id, and words by synset, of the classes without children."""
    synsets: dict[int, str] = {}
    words: dict[str, str] = {}
    try:
        rows = read_structs(content, "synsets")
    except MatFileError as error:
        raise DataError(f"{where} cannot be read ({error}); fetch the kit again") from None
    for number, row in enumerate(rows, start=1):
        children, identifier, synset, text = (
            row.get(name) for name in ("num_children", "ILSVRC2012_ID", "WNID", "words")
        )
        match children, identifier, synset, text:
            case [0.0], [float(value)], str(), str() if value.is_integer():
                synsets[int(value)] = checked_name(synset, where)
                words[synset] = checked_name(text, where)
            case [float()], [float()], str(), str():
                continue  # an inner node of the hierarchy, without images of its own
            case _:
                raise DataError(f"{where} has an unknown row {number}; fetch the kit again")
    return synsets, words
