"""Addresses open the right place, and writes are whole, tried again, or refused with the remedy."""

from __future__ import annotations

import errno
from pathlib import Path

import fsspec
import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem

from everymask.errors import ConfigurationError, OutputError
from everymask.storage import is_remote, open_whole, resolve, split_query, write_whole


def failing_filesystem(failures: list[OSError]) -> pafs.FileSystem:
    """The local file system, except that opening a file to write raises each of `failures` once."""

    class Failing(LocalFileSystem):
        cachable = False

        def open(self, path: str, mode: str = "rb", **options: object) -> object:
            if "w" in mode and failures:
                raise failures.pop(0)
            return super().open(path, mode, **options)

    return pafs.PyFileSystem(pafs.FSSpecHandler(Failing(auto_mkdir=True)))


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("out", f"file://{tmp_path}/out", str(tmp_path / "out")):
        filesystem, path = resolve(uri)
        assert isinstance(filesystem, pafs.LocalFileSystem)
        assert path == str(tmp_path / "out")


def test_fsspec_serves_what_pyarrow_does_not_know() -> None:
    fsspec.filesystem("memory").pipe("/bucket/a.txt", b"hello")
    filesystem, path = resolve("memory://bucket/a.txt")
    with filesystem.open_input_file(path) as file:
        assert file.read() == b"hello"


def test_absolute_paths_of_a_scheme_stay_absolute() -> None:
    assert resolve("local:///data/images")[1] == "/data/images"
    assert resolve("local:///")[1] == "/"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^nosuch://x/ cannot be opened"):
        resolve("nosuch://x/y")


@pytest.mark.parametrize(
    "uri", ["s3://key:secret@bucket/x", "s3://b/x?region=r&secret_key=secret", "s3://b?access_key=k"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="holds credentials") as caught:
        resolve(uri)
    assert "secret@" not in str(caught.value)
    assert "=secret" not in str(caught.value)


def test_parameters_are_told_from_paths() -> None:
    assert split_query("s3://b/k?endpoint_override=h:1") == ("s3://b/k", "?endpoint_override=h:1")
    assert split_query("s3://b/what?.jpg") == ("s3://b/what?.jpg", "")
    assert [is_remote(uri) for uri in ("gs://b", "file:///x", "a/b")] == [True, False, False]


def test_a_write_is_whole_and_makes_its_folder(tmp_path: Path) -> None:
    write_whole(pafs.LocalFileSystem(), str(tmp_path / "a" / "b.txt"), b"one")
    write_whole(pafs.LocalFileSystem(), str(tmp_path / "a" / "b.txt"), b"two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"


def test_a_storage_that_fails_for_a_while_is_tried_again(tmp_path: Path) -> None:
    failures = [OSError(errno.EIO, "I/O error"), OSError(errno.ETIMEDOUT, "timed out")]
    write_whole(failing_filesystem(failures), str(tmp_path / "x"), b"data", delays_s=(0, 0))
    assert (tmp_path / "x").read_bytes() == b"data"


def test_a_storage_that_keeps_failing_is_given_up_with_the_path(tmp_path: Path) -> None:
    failures = [OSError(errno.EIO, "I/O error")] * 3
    with pytest.raises(OutputError, match=r"^cannot write .*/x: .*everything finished so far is kept"):
        write_whole(failing_filesystem(failures), str(tmp_path / "x"), b"data", delays_s=(0, 0))
    assert failures == []


def test_a_full_disk_is_not_waited_for(tmp_path: Path) -> None:
    failures = [OSError(errno.ENOSPC, "No space left on device")]
    with pytest.raises(OutputError, match=r"cannot write .*/x: .*No space left on device.*run the same command again"):
        write_whole(failing_filesystem(failures), str(tmp_path / "x"), b"data", delays_s=(3600,))
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"before")

    def break_off() -> None:
        with open_whole(pafs.LocalFileSystem(), str(tmp_path / "x")) as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"before"
