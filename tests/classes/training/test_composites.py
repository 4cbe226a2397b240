from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import MaskEmbeddings, StoredEmbeddings
from everymask.classes.segmenter import describe_masks
from everymask.classes.training.bags import UNNAMED
from everymask.classes.training.composites import (
    CompositePlan,
    FoundObject,
    PastedObjects,
    compose,
    composite_masks,
    find_objects,
    name_masks,
    plan_composites,
    shows_no_class,
)
from everymask.masks.rle import decode_mask, decode_masks, encode_mask
from tests.classes.toy import ColourBackbone, colour_head, picture

EXEMPLARS = {
    "cherry": picture([("cherry", (8, 8, 36, 32))]),
    "lime": picture([("lime", (10, 10, 38, 30))]),
}
SCENE = picture([("plum", (2, 2, 20, 20))], (80, 96))


def masks_of(image: NDArray[np.uint8]) -> MaskEmbeddings:
    backbone = ColourBackbone()
    return describe_masks(backbone, backbone.embed([image])[0], ClassesConfig())


@pytest.fixture(scope="module")
def objects() -> list[FoundObject]:
    records = [StoredEmbeddings(name, "", "", masks_of(image)) for name, image in EXEMPLARS.items()]
    return find_objects(records, {"cherry": 0, "lime": 1}, colour_head())


def read(image_id: str) -> NDArray[np.uint8]:
    return SCENE if image_id == "scene" else EXEMPLARS[image_id]


def test_the_head_cuts_whole_objects_out_of_exemplars(objects: list[FoundObject]) -> None:
    assert [(item.image_id, item.class_id) for item in objects] == [("cherry", 0), ("lime", 1)]
    for item in objects:
        red, green, _ = EXEMPLARS[item.image_id][decode_mask(item.mask)].T
        assert set((red.astype(int) - green).tolist()) == ({190} if item.class_id == 0 else {-170})
        assert decode_mask(item.mask).sum() == (EXEMPLARS[item.image_id] != 128).all(axis=2).sum()


def test_nothing_is_cut_out_where_the_head_finds_nothing_or_something_else() -> None:
    records = [StoredEmbeddings("cherry", "", "", masks_of(EXEMPLARS["cherry"]))]
    assert find_objects(records, {"cherry": 1}, colour_head()) == []
    unsure = colour_head(4.0)
    unsure.spec = replace(unsure.spec, score_thresh=0.95)
    assert find_objects(records, {"cherry": 0}, unsure) == []


def test_a_scene_is_a_picture_in_which_the_head_sees_no_class() -> None:
    assert shows_no_class(masks_of(picture([])), colour_head())
    assert not shows_no_class(masks_of(picture([("lime", (2, 2, 8, 8))])), colour_head())


def test_every_class_is_pasted_alike_however_many_exemplars_it_has(objects: list[FoundObject]) -> None:
    many = [objects[0]] * 9 + [objects[1]]
    plans = plan_composites(["scene", "other"], many, 400, seed=3)
    assert plans == plan_composites(["scene", "other"], many, 400, seed=3)
    assert len({plan.image_id for plan in plans}) == 400
    counts = Counter(item.class_id for plan in plans for item in plan.objects)
    assert 0.8 < counts[0] / counts[1] < 1.25
    assert {len(plan.objects) for plan in plans} == {1, 2, 3, 4}
    assert plan_composites([], many, 5, seed=0) == plan_composites(["scene"], [], 5, seed=0) == []


def test_what_is_seen_of_an_object_is_where_its_mask_says(objects: list[FoundObject]) -> None:
    for seed in range(20):
        pixels, pasted = compose(CompositePlan("scene", (objects[0],), seed), read)
        changed = (pixels != SCENE).any(axis=2)
        (mask,) = decode_masks(pasted.masks, SCENE.shape[:2])
        # Outside, only the softened edge has changed.
        assert (changed & mask).sum() >= 0.95 * mask.sum()
        assert (changed & ~mask).sum() <= 0.6 * mask.sum()
        inside = pixels[mask].astype(int)
        assert np.median(inside[:, 0] - inside[:, 1]) > 100


def test_objects_reach_over_every_edge_of_the_scene(objects: list[FoundObject]) -> None:
    edges = {"top": 0, "bottom": 0, "left": 0, "right": 0}
    for seed in range(60):
        _, pasted = compose(CompositePlan("scene", (objects[0],), seed), read)
        (mask,) = decode_masks(pasted.masks, SCENE.shape[:2])
        touched = {"top": mask[0], "bottom": mask[-1], "left": mask[:, 0], "right": mask[:, -1]}
        edges = {name: count + int(touched[name].any()) for name, count in edges.items()}
    assert all(0 < count < 30 for count in edges.values()), edges


def test_later_objects_hide_earlier_ones(objects: list[FoundObject]) -> None:
    hidden = 0
    for seed in range(30):
        pixels, pasted = compose(CompositePlan("scene", (objects[0], objects[1], objects[0]), seed), read)
        masks = decode_masks(pasted.masks, SCENE.shape[:2])
        assert masks.sum(axis=0).max() <= 1
        assert masks.any(axis=(1, 2)).all()
        alone = compose(CompositePlan("scene", (objects[0],), seed), read)[1]
        hidden += int(masks[0].sum()) < int(decode_mask(alone.masks[0]).sum())
        again, same = compose(CompositePlan("scene", (objects[0], objects[1], objects[0]), seed), read)
        assert (again == pixels).all()
        assert same == pasted
    assert hidden > 5


def test_masks_of_a_composite_are_objects_background_or_nothing_known() -> None:
    def box(x0: int, x1: int) -> NDArray[np.bool_]:
        mask = np.zeros((10, 20), dtype=bool)
        mask[:, x0:x1] = True
        return mask

    pasted = PastedObjects((1, 0), (encode_mask(box(0, 10)), encode_mask(box(12, 16))))
    proposed = [encode_mask(box(*sides)) for sides in ((0, 9), (12, 17), (0, 4), (17, 20), (5, 20))]
    assert name_masks(proposed, pasted, 2).tolist() == [1, 0, UNNAMED, 2, UNNAMED]
    assert name_masks(proposed, PastedObjects((), ()), 2).tolist() == [2] * 5


def test_a_head_learns_the_named_masks_alone(objects: list[FoundObject]) -> None:
    pixels, pasted = compose(CompositePlan("scene", (objects[0],), 4), read)
    masks = masks_of(pixels)
    named = composite_masks([(pasted, masks)], "token", 2)
    labels = name_masks(masks.rles, pasted, 2)
    assert named is not None
    assert named.labels.tolist() == labels[labels != UNNAMED].tolist()
    assert (named.inputs == masks.features.inputs("token")[labels != UNNAMED]).all()
    assert composite_masks([], "token", 2) is None
