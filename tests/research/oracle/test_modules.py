"""E-SAM on exact answers: refinement destroys nothing that was right. On answers like SAM's: no near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import ImageEmbedding
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.consensus import GridAnswers
from everymask.entities.segmenter import entity_labels, segment_entities
from everymask.evaluation.entity_ap import match_entities
from everymask.evaluation.ground_truth import EntityTruth, read_coco_panoptic
from everymask.images.decoding import decode_image
from everymask.masks.mask_set import MaskSet
from everymask.masks.packed import PackedMasks
from everymask.masks.rle import decode_masks, encode_label_map
from everymask.records import ImageLabels
from everymask.research.oracle import EXACT, LIKE_SAM, OracleBackbone, Scene, annotated_scene, drawn_scene

MODULES = {"none": (), "MMG": ("mmg",), "EMR": ("emr",), "USR": ("usr",), "all": ("mmg", "emr", "usr")}


def with_modules(config: EntityConfig, modules: tuple[str, ...]) -> EntityConfig:
    """The same settings with only those modules."""
    return replace(config, **{module: module in modules for module in ("mmg", "emr", "usr")})


def hit_objects(scene: Scene, points: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """The objects that points fall on, and one of the points for each."""
    columns, rows = points.long().T.numpy()
    objects, first = np.unique(scene.objects[rows, columns], return_index=True)
    return objects[objects >= 0], points[first[objects >= 0]]


def through_the_canvas(oracle: OracleBackbone, scene: Scene, points: torch.Tensor) -> ImageLabels:
    """The true masks of the objects under the points, as E-SAM would return them untouched."""
    embedding = oracle.embed([scene.image])[0]
    masks = MaskSet.from_prompts(oracle.decode_points(embedding, points), embedding.canvas.cell_area)
    objects = masks[torch.arange(0, 3 * len(points), 3)]
    packed = PackedMasks.pack(masks.masks, embedding.canvas.cell_area)
    clicks = GridAnswers(packed, embedding.canvas.cells_at(points).numpy(), np.arange(len(points)))
    return entity_labels(objects, clicks, embedding.canvas)


def precisions(scenes: Mapping[str, Scene], truth: Mapping[str, EntityTruth], side: int) -> dict[str, float]:
    """AP^e by module, and of the true masks; entities that no prompt of the grid hits count neither way."""
    found: dict[str, dict[str, ImageLabels]] = {name: {} for name in (*MODULES, "truth")}
    counted = {}
    config = EntityConfig(points_per_side=side, gallery_points_per_side=2 * side)
    for name, scene in scenes.items():
        oracle = OracleBackbone([scene], EXACT)
        embedding = oracle.embed([scene.image])[0]
        objects, points = hit_objects(scene, point_grid(scene.image.shape[:2], side))
        crowd = tuple(known or index not in objects for index, known in enumerate(truth[name].iscrowd))
        counted[name] = replace(truth[name], iscrowd=crowd)
        found["truth"][name] = through_the_canvas(oracle, scene, points)
        for row, modules in MODULES.items():
            found[row][name] = segment_entities(oracle, embedding, with_modules(config, modules))
    return {row: match_entities(labels, counted).figures().ap for row, labels in found.items()}


def assert_nothing_is_destroyed(by_row: Mapping[str, float]) -> None:
    assert by_row["truth"] > 0.9
    assert by_row["all"] >= 0.98 * by_row["truth"]
    assert all(by_row[module] >= by_row["none"] - 0.01 for module in ("MMG", "EMR", "USR"))


@pytest.mark.parametrize("size_hw", [(214, 320), (320, 214)])
def test_exact_answers_come_back_on_a_drawn_scene(size_hw: tuple[int, int]) -> None:
    scene = drawn_scene(15, size_hw)
    entities = tuple(encode_label_map(scene.objects.astype(np.int32), int(scene.object.max()) + 1))
    truth = EntityTruth(size_hw, entities, (False,) * len(entities))
    assert_nothing_is_destroyed(precisions({"a": scene}, {"a": truth}, side=10))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.shared_data
def test_exact_answers_come_back_on_annotated_photographs(shared_data: Path) -> None:
    folder = shared_data / "coco_panoptic" / "train"
    truth = dict(sorted(read_coco_panoptic(folder).items())[:20])
    scenes = {
        name: annotated_scene(decode_image((folder / "images" / name).read_bytes()), image)
        for name, image in truth.items()
    }
    assert_nothing_is_destroyed(precisions(scenes, truth, side=16))


def greatest_iou(masks: np.ndarray) -> float:
    """Of any two of the (M, …) bool masks."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    shared = flat @ flat.T
    areas = flat.sum(axis=1)
    iou = shared / np.maximum(areas[:, None] + areas - shared, 1)
    return float(np.triu(iou, 1).max())


def test_near_duplicates_from_neighbouring_clicks_are_left_out() -> None:
    scene = drawn_scene(8, (120, 160))
    oracle = OracleBackbone([scene], LIKE_SAM)
    embedding = oracle.embed([scene.image])[0]
    said = oracle.decode_points(embedding, point_grid((120, 160), 6))
    distinct = {mask.tobytes(): mask for mask in (said.logits.flatten(0, 1) > 0).numpy()}
    assert greatest_iou(np.stack(list(distinct.values()))) > 0.95
    amg = segment_amg(oracle, embedding, AmgConfig(points_per_side=6))
    assert 0 < greatest_iou(decode_masks([mask.rle for mask in amg.masks], (120, 160))) <= 0.95
    rows = ("none", "MMG", "EMR", "all")
    crumbs = {name: crumbs_left(oracle, embedding, scene, MODULES[name]) for name in rows}
    assert crumbs["none"] > crumbs["MMG"] > 0
    assert crumbs["EMR"] == crumbs["all"] == 0


def crumbs_left(oracle: OracleBackbone, embedding: ImageEmbedding, scene: Scene, modules: tuple[str, ...]) -> int:
    """Entities that are under a tenth of the object that they lie in.

    Entities are disjoint, so a near-duplicate shows as the rim that it has beyond its better twin.
    """
    config = EntityConfig(points_per_side=6, gallery_points_per_side=12)
    labels = segment_entities(oracle, embedding, with_modules(config, modules))
    areas = np.bincount(scene.objects[scene.objects >= 0])
    crumbs = 0
    for mask in decode_masks([mask.rle for mask in labels.masks], labels.size_hw):
        inside = np.bincount(scene.objects[mask & (scene.objects >= 0)], minlength=len(areas))
        crumbs += bool(inside.max() < 0.1 * areas[inside.argmax()])
    return crumbs
