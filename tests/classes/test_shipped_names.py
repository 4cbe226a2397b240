"""A shipped class head is named, from any folder; a file of that name comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from everymask.classes.head import load_head
from everymask.classes.shipped import SHIPPED_HEADS, head_file, settled_head
from everymask.errors import ConfigurationError


def test_a_name_is_the_shipped_head_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert head_file("everyday") == SHIPPED_HEADS / "everyday.safetensors"
    assert settled_head("everyday") == "everyday"
    assert "cat" in load_head("everyday").spec.classes


def test_a_file_comes_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "everyday").write_bytes(b"mine")
    assert head_file("everyday") == Path("everyday")
    assert settled_head("everyday") == str(tmp_path / "everyday")


def test_a_head_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"there is no class head at every; .*a shipped one \(everyday\)"):
        load_head("every")
