from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import safetensors
import safetensors.torch

from everymask.backbone.sam import SamBackbone
from everymask.classes.head import ClassHead
from everymask.errors import ConfigurationError, HeadMismatchError
from serve.errors import ServiceError
from serve.head_files import HeadFolders
from serve.heads import Heads
from serve.schema import HeadsAnswer
from serve.tasks import ModelDescription
from tests.serve.running_service import CLASSES, write_head


@pytest.fixture
def running(tiny_sam: SamBackbone) -> ModelDescription:
    return ModelDescription(tiny_sam.name, tiny_sam.weights_sha256, "cpu")


def test_a_head_is_there_as_soon_as_its_file_is(
    tmp_path: Path, tiny_sam: SamBackbone, running: ModelDescription
) -> None:
    heads = Heads([tmp_path / "later"])
    assert heads.list(running) == []
    (tmp_path / "later").mkdir()
    write_head(tmp_path / "later", "pets", tiny_sam)
    (tmp_path / "later" / ".half.safetensors").write_bytes(b"")
    (tmp_path / "later" / "notes.txt").write_text("no head")
    assert [(item.name, item.classes, item.usable) for item in heads.list(running)] == [("pets", list(CLASSES), True)]
    assert heads.usable("pets", running).spec.classes == CLASSES
    (tmp_path / "later" / "pets.safetensors").unlink()
    assert heads.list(running) == []


def test_a_replaced_file_is_another_model(tmp_path: Path, tiny_sam: SamBackbone) -> None:
    write_head(tmp_path, "pets", tiny_sam)
    before = HeadFolders([tmp_path]).find("pets").model_id
    write_head(tmp_path, "pets", tiny_sam)
    assert HeadFolders([tmp_path]).find("pets").model_id != before


def test_the_first_folder_that_has_a_name_is_asked_for_it(
    tmp_path: Path, tiny_sam: SamBackbone, running: ModelDescription
) -> None:
    for folder in ("own", "shipped"):
        (tmp_path / folder).mkdir()
    write_head(tmp_path / "shipped", "everyday", tiny_sam, weights_sha256="0" * 64)
    write_head(tmp_path / "shipped", "pets", tiny_sam)
    heads = Heads([tmp_path / "own", tmp_path / "missing", tmp_path / "shipped"])
    assert [(item.name, item.usable) for item in heads.list(running)] == [("everyday", False), ("pets", True)]
    write_head(tmp_path / "own", "everyday", tiny_sam)
    assert [(item.name, item.usable) for item in heads.list(running)] == [("everyday", True), ("pets", True)]
    loaded = HeadFolders([tmp_path / "own", tmp_path / "shipped"]).load(heads.usable("everyday", running).file.model_id)
    assert loaded.spec.weights_sha256 == tiny_sam.weights_sha256


def test_one_that_does_not_fit_says_why(tmp_path: Path, tiny_sam: SamBackbone, running: ModelDescription) -> None:
    write_head(tmp_path, "other", tiny_sam, weights_sha256="0" * 64)
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    heads = Heads([tmp_path])
    broken, other = heads.list(running)
    assert not broken.usable
    assert "damaged" in (broken.problem or "")
    assert not other.usable
    assert "000000000000" in (other.problem or "")
    with pytest.raises(HeadMismatchError):
        heads.usable("other", running)
    with pytest.raises(ConfigurationError) as damaged:
        heads.usable("broken", running)
    # Where the server keeps its files is no client's business.
    assert str(tmp_path) not in str(damaged.value)
    assert str(tmp_path) not in (broken.problem or "")


@pytest.mark.parametrize("name", ["nothing", "../secret", "/etc/passwd", "", ".", "..", "pets.safetensors", "x\0y"])
def test_a_name_is_only_looked_up(tmp_path: Path, tiny_sam: SamBackbone, name: str) -> None:
    (tmp_path / "heads").mkdir()
    write_head(tmp_path / "heads", "pets", tiny_sam)
    write_head(tmp_path, "secret", tiny_sam)
    with pytest.raises(ServiceError) as unknown:
        HeadFolders([tmp_path / "heads"]).find(name)
    assert (unknown.value.status, unknown.value.code) == (404, "head_unknown")
    assert "pets" in unknown.value.message


def _damaged(head: Path, path: Path, change: dict[str, object]) -> None:
    """A copy of a head whose specification says something else."""
    with safetensors.safe_open(head, framework="pt") as content:
        metadata = content.metadata()
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
    metadata["head"] = json.dumps({**json.loads(metadata["head"]), **change})
    safetensors.torch.save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": [1, 2]},
        {"classes": [None, "field"]},
        {"classes": 5},
        {"backbone": 7},
        {"weights_sha256": None},
        {"hidden_dim": -1},
        {"hidden_dim": 0},
        {"hidden_dim": 2.5},
        {"hidden_dim": True},
        {"hidden_dim": 10**13},
        {"hidden_dim": 20_000},
        {"token_dim": 10**8},
        {"token_dim": "wide"},
        {"features": ["token"]},
        {"unheard_of": 1},
    ],
    ids=str,
)
def test_one_broken_head_does_not_break_the_list(
    tmp_path: Path, tiny_sam: SamBackbone, running: ModelDescription, change: dict[str, object]
) -> None:
    write_head(tmp_path, "pets", tiny_sam)
    _damaged(tmp_path / "pets.safetensors", tmp_path / "broken.safetensors", change)
    (tmp_path / os.fsdecode(b"not-unicode-\xff.safetensors")).write_bytes(b"")
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    heads = Heads([tmp_path])
    answer = HeadsAnswer(heads=heads.list(running), folders=[str(tmp_path)])
    answer.model_dump_json()
    assert [(item.name, item.usable) for item in answer.heads] == [("broken", False), ("pets", True)]
    with pytest.raises(ConfigurationError):
        heads.usable("broken", running)


def test_a_bad_head_is_read_once(tmp_path: Path, running: ModelDescription) -> None:
    class CountingFolders(HeadFolders):
        reads = 0

        def load(self, model_id: str) -> ClassHead:
            self.reads += 1
            return super().load(model_id)

    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    heads = Heads([tmp_path])
    folders = heads._heads = CountingFolders([tmp_path])
    problems = {heads.list(running)[0].problem for _ in range(3)}
    with pytest.raises(ConfigurationError, match="damaged"):
        heads.usable("broken", running)
    assert (len(problems), folders.reads) == (1, 1)
