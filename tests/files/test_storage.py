"""Addresses open the right place."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow.fs as pafs
import pytest

from everymask.errors import ConfigurationError
from everymask.files.storage import is_remote, resolve, split_query


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
