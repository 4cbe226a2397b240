from __future__ import annotations

from pathlib import Path

import pytest

from everymask.backbone.sam import SamBackbone
from everymask.errors import ConfigurationError, HeadMismatchError
from serve.class_sets import ClassSets
from serve.errors import ServiceError
from serve.heads import HeadDirectory
from serve.refiner import ModelDescription
from tests.running_service import CLASSES, write_head


@pytest.fixture
def running(tiny_sam: SamBackbone) -> ModelDescription:
    return ModelDescription(tiny_sam.name, tiny_sam.weights_sha256, "cpu")


def test_a_head_is_there_as_soon_as_its_file_is(
    tmp_path: Path, tiny_sam: SamBackbone, running: ModelDescription
) -> None:
    sets = ClassSets(tmp_path / "later")
    assert sets.list(running) == []
    (tmp_path / "later").mkdir()
    write_head(tmp_path / "later", "pets", tiny_sam)
    (tmp_path / "later" / ".half.safetensors").write_bytes(b"")
    (tmp_path / "later" / "notes.txt").write_text("no head")
    assert [(item.name, item.classes, item.usable) for item in sets.list(running)] == [("pets", list(CLASSES), True)]
    assert sets.usable("pets", running)[1].classes == CLASSES
    (tmp_path / "later" / "pets.safetensors").unlink()
    assert sets.list(running) == []


def test_a_replaced_file_is_another_model(tmp_path: Path, tiny_sam: SamBackbone) -> None:
    write_head(tmp_path, "pets", tiny_sam)
    before = HeadDirectory(tmp_path).find("pets").model_id
    write_head(tmp_path, "pets", tiny_sam)
    assert HeadDirectory(tmp_path).find("pets").model_id != before


def test_one_that_does_not_fit_says_why(tmp_path: Path, tiny_sam: SamBackbone, running: ModelDescription) -> None:
    write_head(tmp_path, "other", tiny_sam, weights_sha256="0" * 64)
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    sets = ClassSets(tmp_path)
    broken, other = sets.list(running)
    assert not broken.usable
    assert "damaged" in (broken.problem or "")
    assert not other.usable
    assert "000000000000" in (other.problem or "")
    with pytest.raises(HeadMismatchError):
        sets.usable("other", running)
    with pytest.raises(ConfigurationError) as damaged:
        sets.usable("broken", running)
    # Where the server keeps its files is no client's business.
    assert str(tmp_path) not in str(damaged.value)
    assert str(tmp_path) not in (broken.problem or "")


@pytest.mark.parametrize("name", ["nothing", "../secret", "/etc/passwd", "", ".", "..", "pets.safetensors", "x\0y"])
def test_a_name_is_only_looked_up(tmp_path: Path, tiny_sam: SamBackbone, name: str) -> None:
    (tmp_path / "heads").mkdir()
    write_head(tmp_path / "heads", "pets", tiny_sam)
    write_head(tmp_path, "secret", tiny_sam)
    with pytest.raises(ServiceError) as unknown:
        HeadDirectory(tmp_path / "heads").find(name)
    assert (unknown.value.status, unknown.value.code) == (404, "class_set_unknown")
    assert "pets" in unknown.value.message
