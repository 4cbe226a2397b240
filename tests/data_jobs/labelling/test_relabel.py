from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import ray
import torch

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.relabel import Relabeller, plan_relabellers, unfinished
from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import EmbeddingShard, StoredEmbeddings, open_embeddings, write_embeddings
from everymask.classes.head import ClassHead, HeadSpec, save_head
from everymask.classes.segmenter import classify_masks, describe_masks
from everymask.errors import ConfigurationError, HeadMismatchError
from everymask.labelling.config import LabelConfig
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import from_batch
from tests.classes.toy import ColourBackbone, picture

CONFIG = ClassesConfig(score_thresh=0.0)
LABELS = LabelConfig("classes", classes=CONFIG)
SEED = 0
SETTINGS = "5" * 64


@pytest.fixture
def head(tmp_path: Path) -> Path:
    path = tmp_path / "head.safetensors"
    torch.manual_seed(SEED)  # one whose head does not call everything background
    save_head(ClassHead(HeadSpec(("cherry", "lime"), "colour", "a" * 64, "token+pooled", 3, 3)).eval(), path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> dict[str, StoredEmbeddings]:
    backbone = ColourBackbone()
    records = []
    for number, name in enumerate(("cherry", "lime", "plum")):
        embedding = backbone.embed([picture([(name, (4, 4, 20, 20 + 2 * number))])])[0]
        masks = describe_masks(backbone, embedding, CONFIG)
        records.append(StoredEmbeddings(f"sub/{name}.jpg", f"/pictures/{name}.jpg", f"{number}" * 64, masks))
    write_embeddings(tmp_path / "store", records[:2], CONFIG.masks)
    write_embeddings(tmp_path / "store", records[2:], CONFIG.masks)
    return {record.image_id: record for record in records}


def batch_of(shards: Sequence[EmbeddingShard]) -> pa.Table:
    return pa.Table.from_pylist([{**shard.__dict__, "rows": list(shard.rows)} for shard in shards])


def test_stored_masks_become_rows_as_the_library_labels_them(
    store: dict[str, StoredEmbeddings], head: Path, tmp_path: Path
) -> None:
    stage = Relabeller(str(head), LABELS, SETTINGS)
    images = {image.image_id: image for image in from_batch(stage(batch_of(open_embeddings(tmp_path / "store")[0])))}
    assert set(images) == set(store)
    for image_id, record in store.items():
        labels = classify_masks(record.embeddings, stage._head, CONFIG)
        assert images[image_id].labels == with_mask_ids(labels, record.content_sha256, SETTINGS)
        assert (images[image_id].uri, images[image_id].content_sha256) == (record.uri, record.content_sha256)
    assert any(image.labels.masks for image in images.values())


def test_images_with_a_row_are_left_out_of_their_shards(store: dict[str, StoredEmbeddings], tmp_path: Path) -> None:
    shards, _ = open_embeddings(tmp_path / "store")
    finished = IdSet()
    finished.add("sub/cherry.jpg")
    finished.add("sub/plum.jpg")
    (left,) = unfinished(shards, finished)
    assert left.image_ids == ("sub/lime.jpg",)
    assert [record.image_id for record in left.read()] == ["sub/lime.jpg"]


def test_a_head_of_other_weights_or_no_head_is_refused(store: dict[str, StoredEmbeddings], tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_head(ClassHead(HeadSpec(("cherry",), "colour", "b" * 64, "token", 3, 3)), other)
    shards, _ = open_embeddings(tmp_path / "store")
    with pytest.raises(HeadMismatchError, match="bbbbbbbbbbbb"):
        Relabeller(str(other), LABELS, SETTINGS)(batch_of(shards))
    with pytest.raises(ConfigurationError, match="nowhere"):
        Relabeller(str(tmp_path / "nowhere.safetensors"), LABELS, SETTINGS)


def test_nothing_is_left_when_everything_has_a_row(store: dict[str, StoredEmbeddings], tmp_path: Path) -> None:
    finished = IdSet()
    for image_id in store:
        finished.add(image_id)
    assert unfinished(open_embeddings(tmp_path / "store")[0], finished) == []


def test_labelling_from_embeddings_leaves_a_clusters_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 4.0, "CPU": 16.0, "memory": 2.0**36})
    monkeypatch.setattr("data_jobs.runtime.actors.alive_nodes", list)
    assert plan_relabellers("2", {}).gpus == 0
    assert plan_relabellers("auto", {"zone": "a"}).labels == {"zone": "a"}
