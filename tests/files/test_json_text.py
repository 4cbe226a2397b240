from __future__ import annotations

import pytest

from everymask.files.json_text import parse_json


def test_what_is_nested_too_deeply_is_no_json() -> None:
    assert parse_json(b'{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
    with pytest.raises(ValueError, match="Expecting"):
        parse_json("[")
