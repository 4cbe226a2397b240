"""Names that every export shares."""

from __future__ import annotations

import pytest

from everymask.errors import ConfigurationError
from everymask.formats.exported import class_of, dense_names, known_class_names, relative_path
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.store import LabelStore
from tests.labels.examples import labels


@pytest.mark.parametrize(
    ("image_id", "path"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("../../x.jpg", "_/_/x.jpg"),
        ("s3://bucket/x.jpg", "s3/bucket/x.jpg"),
        ("a\\..\\b.jpg", "a/_/b.jpg"),
    ],
)
def test_no_image_id_leads_out_of_the_folder(image_id: str, path: str) -> None:
    assert relative_path(image_id) == path


def test_one_class_id_has_one_name() -> None:
    names = {0: "horse"}
    with pytest.raises(ConfigurationError, match="class 0 is 'horse' in one row and 'cat' in another"):
        class_of(labels(classes=True).masks[0], names)


def test_classes_without_a_mask_are_known_from_the_run(classes: LabelStore) -> None:
    assert known_class_names(classes) == {}
    write_run(classes, RunRecord({"class_names": ["cat", "dog", "horse"]}))
    assert dense_names(known_class_names(classes)) == ["cat", "dog", "horse"]
    assert dense_names({2: "horse"}) == ["class 0", "class 1", "horse"]
