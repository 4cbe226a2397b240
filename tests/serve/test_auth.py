from __future__ import annotations

from pathlib import Path

import pytest

from everymask.errors import ConfigurationError
from serve.auth import ApiKeys


def test_without_a_file_everyone_is_allowed() -> None:
    keys = ApiKeys.from_file(None)
    assert keys.owner(None) == ""


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("Bearer first", True),
        ("bearer second", True),
        ("Bearer  first ", True),
        ("Bearer third", False),
        ("Bearer firs", False),
        ("Bearer # comment", False),
        ("Bearer ", False),
        ("Basic first", False),
        ("first", False),
        ("", False),
        (None, False),
        ("Bearer \udcff", False),
    ],
)
def test_only_listed_keys_open(tmp_path: Path, header: str | None, allowed: bool) -> None:
    file = tmp_path / "keys"
    file.write_text("# comment\nfirst\n\n  second  \n")
    assert (ApiKeys.from_file(file).owner(header) is not None) is allowed


def test_keys_are_not_kept_in_the_clear(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("very-secret\n")
    assert "very-secret" not in repr(vars(ApiKeys.from_file(file)))


@pytest.mark.parametrize("content", [None, "", "# nothing but a comment\n", b"\xff\xfe\x00"])
def test_a_file_without_keys_is_a_configuration_error(tmp_path: Path, content: str | bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError, match="keys"):
        ApiKeys.from_file(file)
