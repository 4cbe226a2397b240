from __future__ import annotations

from pathlib import Path

import pytest

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError


def test_names_are_classes_in_the_order_given() -> None:
    classes = Taxonomy.parse("dog, cat")
    assert classes.classes == ("dog", "cat")
    assert dict(classes.class_of) == {"dog": "dog", "cat": "cat"}


def test_many_subjects_can_be_one_class() -> None:
    classes = Taxonomy.parse("animals=bird+cat+dog,person,cat food=tin")
    assert classes.classes == ("animals", "person", "cat food")
    assert classes.class_of["bird"] == "animals"
    assert Taxonomy.parse("cat=cat+lion").classes == ("cat",)


def test_a_json_file_maps_subjects_to_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text('{"bird": "animals", "cat": "animals", "chair": "chair"}')
    assert Taxonomy.parse(str(path)) == Taxonomy.parse("animals=bird+cat,chair")


@pytest.mark.parametrize("text", ["", " , ", "cat,cat", "a=cat,cat", "a=x,a=y", "a=", "../up", "a/b", ".hidden"])
def test_bad_classes_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"name|class"):
        Taxonomy.parse(text)


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', "{", '{"cat": "x", "cat": "y"}', "{}"])
def test_a_bad_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError):
        Taxonomy.parse(str(path))
