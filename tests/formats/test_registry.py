"""The documentation's table of formats is the registry's."""

from __future__ import annotations

from pathlib import Path

import pytest

from everymask.errors import ConfigurationError
from everymask.formats.registry import find_format, markdown_table

LABELLING = Path(__file__).resolve().parents[2] / "docs" / "labelling.md"


def test_the_documented_table_is_the_registrys() -> None:
    assert markdown_table() in LABELLING.read_text(encoding="utf-8")


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="there is no format 'kitti'; choose one of coco, coco-folders"):
        find_format("kitti")
