from __future__ import annotations

from pathlib import Path

import pytest

from everymask.classes.exemplars.folder import class_folder_pictures
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from tests.classes.exemplars.pictures import picture_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog", "unasked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(picture_file(1))
        (tmp_path / name / ".hidden.jpg").touch()
    (tmp_path / "loose.jpg").touch()
    return tmp_path


def test_the_pictures_of_the_classes_are_read_from_their_directories(folder: Path) -> None:
    found = list(class_folder_pictures(folder, Taxonomy.parse("pets=dog+cat")))
    assert [origin.subject for origin, _ in found] == ["dog", "cat"]
    assert found[0][0].url == str(folder / "dog" / "a.jpg")
    assert found[0][1] == picture_file(1)


def test_a_class_without_a_directory_is_named(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="fox"):
        list(class_folder_pictures(folder, Taxonomy.parse("cat,fox")))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        list(class_folder_pictures(tmp_path / "nowhere", Taxonomy.parse("cat")))
