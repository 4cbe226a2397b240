"""The store that comes back from tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from everymask.labels.store import LabelStore
from tests.formats.shapes import shape_store


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Every shape that formats get wrong."""
    return shape_store(tmp_path)
