"""The members are those that `tarfile` finds, at the same places; nothing odd gets through."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

from preprocessing.errors import DataError
from preprocessing.sources.tar import members

FORMATS = {
    "ustar": tarfile.USTAR_FORMAT,
    "GNU": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}


def pack(format_name: str, names: list[str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=FORMATS[format_name]) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = 300 * number
            member.mtime = 0.5 if format_name == "pax" else 0  # a pax header of its own
            archive.addfile(member, io.BytesIO(bytes([number]) * member.size))
    return packed.getvalue()


@pytest.mark.parametrize("format_name", FORMATS)
def test_members_are_those_of_tarfile(format_name: str) -> None:
    names = ["a.JPEG", "./b.JPEG", "folder/c.JPEG", f"{'d' * 90}/{'e' * 80}.JPEG"]
    if format_name != "ustar":
        names += [f"{'f' * 300}.JPEG", "ümläut.JPEG", "g.JPEG"]
    packed = pack(format_name, names)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive if m.isfile()]
    assert [tuple(m) for m in members(io.BytesIO(packed), "x.tar")] == expected
    inside = io.BytesIO(b"before" + packed + b"behind")
    listed = [tuple(m) for m in members(inside, "x.tar", 6, 6 + len(packed))]
    assert listed == [(name, offset + 6, size) for name, offset, size in expected]


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_cut_is_found_wherever_it_is(format_name: str) -> None:
    packed = pack(format_name, ["a", "b", "c"])
    end = packed.rindex(bytes([2])) // 512 * 512 + 512  # of the last file; then the end mark
    for kept in range(0, end + 511, 256):
        with pytest.raises(DataError, match=r"x\.tar is not a complete tar"):
            list(members(io.BytesIO(packed[:kept]), "x.tar", end=kept))


def one(change: Callable[[tarfile.TarInfo], None]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("a.JPEG")
        change(member)
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    return packed.getvalue()


def named(name: str) -> bytes:
    return one(lambda member: setattr(member, "name", name))


def linked(kind: bytes, target: str = "") -> bytes:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return one(change)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (named("../../etc/passwd"), "leads out of it"),
        (named("a/../../b.JPEG"), "leads out of it"),
        (named("/etc/passwd"), "leads out of it"),
        (named("a\nb.JPEG"), "printable"),
        (linked(tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link"),
        (linked(tarfile.LNKTYPE, "../x"), "a hard link"),
        (linked(tarfile.CHRTYPE), "a device"),
        (linked(tarfile.FIFOTYPE), "a pipe"),
        (linked(b"Q"), "unknown type"),
    ],
)
def test_names_that_lead_elsewhere_and_members_that_are_no_files_are_refused(
    packed: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=f"x.tar holds .*{message}"):
        list(members(io.BytesIO(packed), "x.tar"))


def test_a_flipped_bit_in_a_header_is_found() -> None:
    packed = pack("ustar", ["a", "b"])
    for bit in range(0, 500 * 8, 7):
        if bit // 8 in (154, 155):  # what follows the digits of the checksum
            continue
        damaged = bytearray(packed)
        damaged[512 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataError):
            list(members(io.BytesIO(bytes(damaged)), "x.tar"))
