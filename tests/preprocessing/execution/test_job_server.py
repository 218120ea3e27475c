"""Beam's job server for Flink: libraries that are named by their content become one jar."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from preprocessing.execution.flink import job_server
from tests.flink import CLUSTER_LIBRARIES


def jar(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def test_the_merged_jar_has_everything_once_and_the_first_wins(tmp_path: Path) -> None:
    service = "META-INF/services/a.Service"
    manifest = {"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\nMain-Class: other\n"}
    first = {"a/A.class": "1", "both": "first", service: "a.One", "META-INF/A.RSA": "signature"}
    second = {"b/B.class": "2", "both": "second", service: "b.Two\n", "module-info.class": "b"}
    jars = [
        jar(tmp_path / "first.jar", **manifest, **first),
        jar(tmp_path / "second.jar", **manifest, **second),
    ]
    merged = tmp_path / "merged.jar"
    job_server.merge(jars, merged)
    with zipfile.ZipFile(merged) as opened:
        names = opened.namelist()
        assert names[0] == job_server.MANIFEST_PATH  # where Java looks for it
        assert sorted(names) == sorted([names[0], "a/A.class", "b/B.class", "both", service])
        assert opened.read("both") == b"first"
        assert opened.read(service).decode().split() == ["a.One", "b.Two"]
    job_server.merge(jars, tmp_path / "again.jar")
    assert (tmp_path / "again.jar").read_bytes() == merged.read_bytes()


def test_the_manifest_is_what_was_meant_when_its_lines_are_joined(tmp_path: Path) -> None:
    job_server.merge([], tmp_path / "merged.jar")
    with zipfile.ZipFile(tmp_path / "merged.jar") as opened:
        written = opened.read(job_server.MANIFEST_PATH).decode()
    assert all(len(line) <= 72 for line in written.split("\r\n"))
    joined = written.removesuffix("\r\n\r\n").replace("\r\n ", "")
    assert dict(line.split(": ") for line in joined.split("\r\n")) == job_server.MANIFEST


@pytest.mark.parametrize("path", [job_server.LIBRARIES, CLUSTER_LIBRARIES])
def test_every_library_is_named_by_its_content(path: Path) -> None:
    libraries = job_server.read(path)
    assert libraries
    assert all(re.fullmatch("[0-9a-f]{64}", library.digest) for library in libraries)
    assert len({library.file_name for library in libraries}) == len(libraries)
    content = b"content"
    library = replace(libraries[0], digest=hashlib.sha256(content).hexdigest())
    library.check(content)
    with pytest.raises(ValueError, match=library.file_name):
        library.check(b"other")
