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


@pytest.mark.parametrize("is_inside", [False, True], ids=["stream", "inside"])
@pytest.mark.parametrize("zeros", [0, 512, 5120, 1 << 17, 100])
def test_joined_and_padded_tars_are_read_on(zeros: int, is_inside: bool) -> None:
    """The zeros lie after the second tar, and, in whole blocks, between the two."""
    between = bytes(zeros // 512 * 512)
    packed = pack("GNU", ["a", "b"]) + between + pack("pax", ["c", "d"]) + bytes(zeros)
    with tarfile.open(fileobj=io.BytesIO(packed), ignore_zeros=True) as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive if m.isfile()]
    assert len(expected) == 4
    end = len(packed) if is_inside else None
    stream = io.BytesIO(packed + b"behind" if is_inside else packed)
    assert [tuple(m) for m in members(stream, "x.tar", 0, end)] == expected


def test_other_bytes_after_the_end_mark_are_refused_with_their_place() -> None:
    packed = pack("GNU", ["a", "b"])
    for junk, place in {
        b"x": 0,
        b"\0" * 700 + b"x": 512,
        b"x" * 600: 0,
        packed[100:]: 0,
        pack("GNU", ["c"])[:800]: 512,
    }.items():
        named = rf"x\.tar .*no valid header at byte {len(packed) + place}, after its end mark"
        with pytest.raises(DataError, match=named):
            list(members(io.BytesIO(packed + junk), "x.tar", end=len(packed + junk)))


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
