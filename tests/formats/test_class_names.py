"""Classes have one number each, whatever run and order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from everymask.errors import ConfigurationError
from everymask.formats.class_names import ClassNames
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.store import LabelStore
from tests.labels.examples import labels


def test_one_class_id_has_one_name() -> None:
    names = ClassNames(["horse"])
    with pytest.raises(ConfigurationError, match="class 0 is 'horse' in one row and 'cat' in another"):
        names.index(labels(classes=True).masks[0])


def test_classes_without_a_mask_are_known_from_the_run(classes: LabelStore) -> None:
    assert ClassNames.of_store(classes).dense() == ["entity"]
    write_run(classes, RunRecord({"class_names": ["cat", "dog", "horse"]}))
    assert ClassNames.of_store(classes).dense() == ["cat", "dog", "horse"]


def test_gaps_are_filled() -> None:
    names = ClassNames()
    names.index(replace(labels(classes=True).masks[0], class_id=2))
    assert names.dense() == ["class 0", "class 1", "cat"]


def test_a_number_of_millions_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has the id 7000000"):
        ClassNames().index(replace(labels(classes=True).masks[0], class_id=7_000_000))
