"""Writes are whole, tried again, or refused with the remedy; other things than files are told from files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem

from everymask.errors import OutputError
from everymask.files.location import Location


def failing_filesystem(failures: list[OSError]) -> pafs.FileSystem:
    """The local file system, except that opening a file to write raises each of `failures` once."""

    class Failing(LocalFileSystem):
        cachable = False

        def open(self, path: str, mode: str = "rb", **options: object) -> object:
            if "w" in mode and failures:
                raise failures.pop(0)
            return super().open(path, mode, **options)

    return pafs.PyFileSystem(pafs.FSSpecHandler(Failing(auto_mkdir=True)))


def test_a_write_is_whole_and_makes_its_folder(tmp_path: Path) -> None:
    Location.at(str(tmp_path / "a" / "b.txt")).write(b"one")
    Location.at(str(tmp_path / "a" / "b.txt")).write(b"two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"


def test_a_storage_that_fails_for_a_while_is_tried_again(tmp_path: Path) -> None:
    failures = [OSError(errno.EIO, "I/O error"), OSError(errno.ETIMEDOUT, "timed out")]
    Location(failing_filesystem(failures), str(tmp_path / "x")).write(b"data", delays_s=(0, 0))
    assert (tmp_path / "x").read_bytes() == b"data"


def test_a_storage_that_keeps_failing_is_given_up_with_the_path(tmp_path: Path) -> None:
    failures = [OSError(errno.EIO, "I/O error")] * 3
    with pytest.raises(OutputError, match=r"^cannot write .*/x: .*everything finished so far is kept"):
        Location(failing_filesystem(failures), str(tmp_path / "x")).write(b"data", delays_s=(0, 0))
    assert failures == []


def test_a_full_disk_is_not_waited_for(tmp_path: Path) -> None:
    failures = [OSError(errno.ENOSPC, "No space left on device")]
    with pytest.raises(OutputError, match=r"cannot write .*/x: .*No space left on device.*run the same command again"):
        Location(failing_filesystem(failures), str(tmp_path / "x")).write(b"data", delays_s=(3600,))
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"before")

    def break_off() -> None:
        with Location.at(str(tmp_path / "x")).stream() as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"before"


def test_kinds_of_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    place = Location.at(str(tmp_path))
    kinds = {name: place.child(name).kind() for name in ("file", "pipe", "nothing")}
    assert kinds == {"file": "file", "pipe": "other", "nothing": "missing"}
    assert place.kind() == "folder"
    assert [entry.name for entry in place.entries()] == ["file", "pipe"]
    assert place.child("nothing").entries() == []


def test_deleting_and_moving(tmp_path: Path) -> None:
    place = Location.at(str(tmp_path))
    place.child("a/b").write(b"x")
    place.child("a/b").move(place.child("c/d"))
    assert place.child("c/d").read() == b"x"
    for name in ("a", "c/d", "nothing"):
        place.child(name).delete()
    assert [entry.name for entry in place.entries()] == ["c"]
