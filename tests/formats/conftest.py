"""A store of entities and one of classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from tests.labels.examples import images


@pytest.fixture
def entities(tmp_path: Path) -> LabelStore:
    """Two labelled images and a failed one, in two parts."""
    store = LabelStore(str(tmp_path / "entities"))
    store.write_part(to_table(images()[:1]))
    store.write_part(to_table(images()[1:]))
    return store


@pytest.fixture
def classes(tmp_path: Path) -> LabelStore:
    """The same with classes cat and dog."""
    store = LabelStore(str(tmp_path / "classes"))
    store.write_part(to_table(images(classes=True)))
    return store
