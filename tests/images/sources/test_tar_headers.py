"""Members of a tar are those that `tarfile` finds, whoever wrote them; a packed one is unpacked once."""

from __future__ import annotations

import gzip
import io
import itertools
import tarfile
from pathlib import Path

import pytest

from everymask.images.files import read_members
from everymask.images.sources.tar import _buffered, _Headers
from everymask.images.sources.tar_headers import Entry, NoEndError, entries
from tests.images.sources.holding import ANYTHING, LIMITS, listed, picture, samples, shard

NAMES = ["a.jpg", "b/c.jpg", "x" * 97, "y" * 98, "d/" * 60 + "e.jpg", "ü.jpg", "a b.jpg", "./f.jpg"]
LONG = ["z" * 180, "d/" * 80 + "e.jpg"]
KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]


def written(path: Path, format: int, mtime: float, kinds: list[bytes]) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        names = NAMES if format == tarfile.USTAR_FORMAT else NAMES + LONG
        for number, (kind, name) in enumerate(itertools.product(kinds, names)):
            info = tarfile.TarInfo(f"{number:02d}{name}")
            info.type, info.mtime, info.linkname = kind, mtime, "a"
            info.size = number * 511 if info.isfile() else 0
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def found(data: bytes) -> list[Entry]:
    return list(entries(_Headers(_buffered(io.BytesIO(data)))))


def by_tarfile(data: bytes) -> list[Entry]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="backslashreplace") as tar:
        return [Entry(entry.name, entry.offset_data, entry.size, entry.isfile()) for entry in tar]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mtime", [0, 1.5])  # webdataset writes fractions, which PAX keeps in a header of their own
@pytest.mark.parametrize("kinds", [KINDS[:1], KINDS])
def test_members_are_those_of_tarfile(tmp_path: Path, format: int, mtime: float, kinds: list[bytes]) -> None:
    data = written(tmp_path / "x.tar", format, mtime, kinds).read_bytes()
    assert found(data) == by_tarfile(data)
    assert len(found(data)) >= len(kinds) * len(NAMES)


def test_plain_members_are_not_left_to_tarfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in samples(0, 20):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            tar.addfile(info, io.BytesIO(data))
    looked = []
    inner = tarfile.TarInfo.frombuf.__func__  # type: ignore[attr-defined]

    def counted(*given: object) -> object:
        looked.append(1)
        return inner(*given)

    monkeypatch.setattr(tarfile.TarInfo, "frombuf", classmethod(counted))
    assert len(found(path.read_bytes())) == 40
    assert looked == []


def test_names_and_sizes_in_an_extended_header_count(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.pax_headers = {"path": "b.jpg", "mtime": "1.5"}
        tar.addfile(info)
    assert [entry.name for entry in found((tmp_path / "x.tar").read_bytes())] == ["b.jpg"]


def test_a_flipped_bit_in_a_header_is_no_member(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "x.tar", tarfile.USTAR_FORMAT, 0, KINDS[:1]).read_bytes())
    data[by_tarfile(bytes(data))[1].offset - 500] ^= 1
    with pytest.raises(NoEndError):
        found(bytes(data))


def test_a_packed_shard_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Counted(gzip.GzipFile):
        def __init__(self, *given: object, **named: object) -> None:
            opened.append(1)
            super().__init__(*given, **named)  # type: ignore[call-overload]

    path = shard(tmp_path / "x.tar.gz", samples(0, 12))
    other = shard(tmp_path / "other.tar.gz", samples(100, 12)).read_bytes()
    images = listed(path)
    monkeypatch.setattr("everymask.images.sources.tar.gzip.GzipFile", Counted)

    def read(first: int, after: int) -> list[object]:
        members = [image.member for image in images[first:after]]
        return read_members(str(path), members, LIMITS, ANYTHING)

    pieces = [read(first, first + 3) for first in range(0, 12, 3)]
    assert list(itertools.chain(*pieces)) == [picture(number) for number in range(12)]
    assert len(opened) == 1
    assert read(2, 3) == [picture(2)]  # before where it is: from the beginning
    assert len(opened) == 2
    path.write_bytes(other)
    assert read(0, 12) == [picture(number) for number in range(100, 112)]
    assert len(opened) == 3
