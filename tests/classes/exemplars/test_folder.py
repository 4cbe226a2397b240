from __future__ import annotations

from pathlib import Path

import pytest

from everymask.classes.exemplars.folder import class_folder_pictures, folder_pictures
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


def test_so_many_pictures_are_drawn_the_same_each_time_beside_those_always_taken(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02}.jpg").write_bytes(picture_file(number))
    always = frozenset({"03.jpg", "07.jpg", "elsewhere.jpg"})
    found = [item.file for item in folder_pictures(tmp_path, "--scenes", 4, always)]
    assert found == sorted(found)
    assert len(found) == 6
    assert {"03.jpg", "07.jpg"} < set(found)
    assert found == [item.file for item in folder_pictures(tmp_path, "--scenes", 4, always)]
    assert len(folder_pictures(tmp_path, "--scenes", 10, always)) == 12
    assert len(folder_pictures(tmp_path, "--scenes")) == 12
