from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everymask.classes.exemplars.manifest import load_exemplars
from everymask.classes.training.corrections import NamedMasks
from everymask.classes.training.negatives import negative_pictures, suspicious_negatives
from everymask.errors import ConfigurationError
from tests.classes.exemplars.pictures import picture_file
from tests.classes.stored import record
from tests.classes.toy import colour_head, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("exemplars/cat", "negatives/streets", "negatives/.hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "exemplars" / "cat" / "a.jpg").write_bytes(picture_file(1))
    (tmp_path / "negatives" / "b.jpg").write_bytes(picture_file(2))
    (tmp_path / "negatives" / "streets" / "c.jpg").write_bytes(picture_file(3))
    (tmp_path / "negatives" / ".hidden" / "d.jpg").write_bytes(picture_file(4))
    return tmp_path


def test_all_pictures_of_the_folder_are_negatives(folder: Path) -> None:
    found = negative_pictures(str(folder / "negatives"), load_exemplars(folder / "exemplars"))
    assert [item.file for item in found] == ["b.jpg", "streets/c.jpg"]


def test_an_exemplar_is_no_negative(folder: Path) -> None:
    (folder / "negatives" / "e.jpg").write_bytes(picture_file(1))
    with pytest.raises(ConfigurationError, match=r"negatives/e\.jpg is an exemplar of cat, too"):
        negative_pictures(str(folder / "negatives"), load_exemplars(folder / "exemplars"))


def test_a_folder_without_pictures_is_named(folder: Path) -> None:
    for path in ("nowhere", "negatives/.hidden/.."):
        for file in (folder / "negatives").rglob("*.jpg"):
            file.unlink()
        with pytest.raises(ConfigurationError, match="negatives"):
            negative_pictures(str(folder / path), [])


def test_negatives_that_the_head_takes_for_a_class_are_named_the_surest_first() -> None:
    box = (4, 4, 20, 24)
    head = colour_head()
    records = [
        record("street.jpg#1", picture([])),
        record("garden/tree.jpg#2", picture([("lime", box)])),
        record("bowl.jpg#3", picture([("cherry", box)])),
    ]
    found = suspicious_negatives(head, records)
    assert {(item.file, item.class_name) for item in found} == {("garden/tree.jpg", "lime"), ("bowl.jpg", "cherry")}
    surest = {
        each.image_id.partition("#")[0]: float(head.probabilities(each.embeddings.features)[:, :-1].max())
        for each in records
    }
    assert [item.probability for item in found] == sorted((surest[item.file] for item in found), reverse=True)


def test_named_masks_of_several_parts_are_all_there() -> None:
    parts = [NamedMasks(torch.full((n, 2), float(n)), torch.full((n,), n)) for n in (1, 3)]
    joined = NamedMasks.joined(parts)
    assert joined.labels.tolist() == [1, 3, 3, 3]
    assert joined.inputs[:, 0].tolist() == [1, 3, 3, 3]
