from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import Canvas
from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery
from everymask.entities.mergers import merge_similar, neighbour_counts, touching
from tests.entities.galleries import SIZE, box, gallery_of
from tests.entities.scenes import mask_set, pixels
from tests.entities.scripted import Reply, ScriptedBackbone

CANVAS = Canvas(torch.arange(SIZE[0] * SIZE[1]).reshape(SIZE), torch.ones(SIZE[0] * SIZE[1]), SIZE)


def similarity_by_definition(masks: Any, features: Any, cells: Any, k: int) -> NDArray[np.float64]:
    """Eq. 7, one superpixel after another."""
    result = np.zeros((len(masks), len(masks)))
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    for i, mask_i in enumerate(masks):
        own = [c for c in range(len(cells)) if mask_i[cells[c]]]
        for j, mask_j in enumerate(masks):
            for c in own:
                others = sorted((d for d in range(len(cells)) if d != c), key=lambda d: (-(unit[c] @ unit[d]), d))
                result[i, j] += sum(mask_j[cells[d]] for d in others[:k]) / len(own)
    return result


@given(st.data())
def test_similarity_follows_equation_seven(data: st.DataObject) -> None:
    count, cells = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 9))
    masks = data.draw(hnp.arrays(np.bool_, (data.draw(st.integers(0, 4)), cells)))
    # Axis directions: similarities are exactly 0, 1 or -1, so ties are real ties.
    directions = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    features = directions[data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2)))]
    centroid_cells = data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, cells - 1)))
    k = data.draw(st.integers(1, 4))
    # A superpixel is in one mask at most, as entities are disjoint.
    masks &= np.cumsum(masks, axis=0) == 1
    owner = np.where(masks.any(axis=0), np.arange(len(masks)) @ masks, -1)[centroid_cells]
    counts = neighbour_counts(torch.from_numpy(features), owner, len(masks), k)
    ours = counts / np.maximum(masks[:, centroid_cells].sum(axis=1), 1)[:, None]
    np.testing.assert_allclose(ours, similarity_by_definition(masks, features, centroid_cells, k), atol=1e-5)


LEFT, MIDDLE, RIGHT = box(0, 10), box(10, 20), box(20, 40)
CENTROIDS = torch.tensor([5, 6, 15, 16, 30, 31])  # cells of the first row: two superpixels in each mask
ALIKE_LEFT = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05], [1.0, 0.15], [0.0, 1.0], [0.1, 1.0]])


def merge(gallery: Gallery, features: Any = ALIKE_LEFT, **settings: Any) -> Any:
    config = EntityConfig(**{"merge_neighbours": 2, "merge_thresh": 1.0, **settings})
    entities = mask_set([LEFT, MIDDLE, RIGHT], [0.9, 0.8, 0.7])
    return merge_similar(entities, gallery, features, CENTROIDS, CANVAS, config)


def test_similar_masks_merge_when_a_gallery_mask_holds_both() -> None:
    entities = merge(gallery_of([Reply.one(LEFT | MIDDLE)]))
    np.testing.assert_array_equal(pixels(entities.masks, SIZE), [LEFT | MIDDLE, RIGHT])
    assert entities.predicted_iou.tolist() == pytest.approx([0.85, 0.7])
    assert (entities.logits[0] > 0).tolist() == (LEFT | MIDDLE).flatten().tolist()


def test_similar_masks_stay_apart_when_no_gallery_mask_holds_both() -> None:
    assert len(merge(gallery_of([Reply.one(LEFT), Reply.one(MIDDLE)], MIDDLE))) == 3


def test_dissimilar_masks_stay_apart_whatever_the_gallery_says() -> None:
    everything = Reply.one(box(0, 40))
    apart = torch.tensor([[1.0, 0, 0], [1.0, 0.1, 0], [0, 1, 0], [0, 1, 0.1], [0, 0, 1], [0.1, 0, 1]])
    config = {"merge_thresh": 1.5}
    assert len(merge(gallery_of([everything]), features=apart, **config)) == 3


def test_mergers_go_on_until_no_pair_is_left() -> None:
    alike = torch.ones(6, 2)
    answers = [Reply.one(LEFT | MIDDLE), Reply.one(box(0, 40))]
    entities = merge(gallery_of(answers, RIGHT), features=alike, merge_thresh=0.5)
    np.testing.assert_array_equal(pixels(entities.masks, SIZE), [box(0, 40)])


def test_no_entity_gives_none() -> None:
    none = mask_set([LEFT], [0.9])[:0]
    gallery = gallery_of([Reply.one(box(0, 40))])
    assert len(merge_similar(none, gallery, torch.ones(3, 2), torch.arange(3), CANVAS, EntityConfig())) == 0


def test_masks_that_do_not_touch_stay_apart() -> None:
    alike = torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1.0], [0, 1.0], [1.0, 0.05], [1.0, 0.15]])  # left and right
    both_sides = gallery_of([Reply.one(LEFT | RIGHT)])
    assert len(merge(both_sides, features=alike)) == 3


def test_a_gallery_mask_much_larger_than_the_pair_says_nothing() -> None:
    everything = gallery_of([Reply.one(box(0, 40))])
    assert len(merge(everything, merge_thresh=1.5)) == 3
    assert len(merge(gallery_of([Reply.one(box(0, 30))]), merge_thresh=1.5)) == 2


def near(first: Any, second: Any) -> bool:
    """Whether two masks of whole columns are at most three pixels apart."""
    columns = [np.flatnonzero(mask.reshape(SIZE).any(axis=0)) for mask in (first, second)]
    return bool(np.abs(columns[0][:, None] - columns[1]).min() <= 3)


def merged_slowly(masks: Any, owner_of: Any, features: Any, answers_at: Any, config: EntityConfig) -> Any:
    """Eq. 7-8 as written: all similarities anew after every merger. Entities are sets of original masks."""
    groups, refused = [[index] for index in range(len(masks))], set()
    while True:
        shapes = [np.logical_or.reduce([masks[index] for index in group]) for group in groups]
        similarity = similarity_by_definition(shapes, features, owner_of, config.merge_neighbours)
        pairs = [
            (max(similarity[i, j], similarity[j, i]), i, j)
            for i in range(len(groups))
            for j in range(i + 1, len(groups))
        ]
        pairs = [pair for pair in pairs if pair[0] >= config.merge_thresh and near(shapes[pair[1]], shapes[pair[2]])]
        for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            key = (tuple(groups[i]), tuple(groups[j]))
            if key in refused:
                continue
            asked = [mask for cell, mask in answers_at if (shapes[i] | shapes[j])[cell]]
            if any(
                mask.sum() <= 1.5 * (shapes[i] | shapes[j]).sum()
                and all(
                    (mask & shape).sum() / shape.sum() >= config.merge_cover_thresh for shape in (shapes[i], shapes[j])
                )
                for mask in asked
            ):
                groups[i] = groups[i] + groups.pop(j)
                break
            refused.add(key)
        else:
            return shapes


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_mergers_are_those_of_the_slow_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, 40), rng.integers(2, 7), replace=False))
    masks = [box(start, stop) for start, stop in zip([0, *edges[:-1]], edges, strict=True)]
    answers = [Reply.one(box(*np.sort(rng.choice(41, 2, replace=False)))) for _ in range(4)]
    answer_map = rng.integers(4, size=SIZE)
    config = EntityConfig(
        gallery_points_per_side=6,
        merge_neighbours=3,
        merge_thresh=0.7,
        merge_cover_thresh=0.8,
    )
    backbone = ScriptedBackbone(answers, answer_map)
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    directions = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    features = directions[rng.integers(4, size=12)]
    centroids = rng.choice(SIZE[0] * SIZE[1], 12, replace=False)
    gallery = Gallery(backbone, embedding, config)
    fast = merge_similar(
        mask_set(masks, [0.9] * len(masks)),
        gallery,
        torch.from_numpy(features),
        torch.from_numpy(centroids),
        CANVAS,
        config,
    )
    cells = CANVAS.cells_at(point_grid(SIZE, 6)).tolist()
    said = [(cell, answers[answer_map.ravel()[cell]].masks[0].ravel()) for cell in cells]
    slow = merged_slowly([mask.ravel() for mask in masks], centroids, features, said, config)
    assert sorted(fast.masks.tolist()) == sorted(mask.tolist() for mask in slow)


@pytest.mark.parametrize("distance", [1, 2, 3, 4])
@pytest.mark.parametrize("across", [False, True])
def test_masks_touch_up_to_three_pixels_apart_along_a_row_or_column(distance: int, across: bool) -> None:
    owner = np.full((9, 9), -1, dtype=np.int64)
    owner[4, 1], owner[4, 1 + distance] = 1, 2
    # Not along a row or column of either of the others.
    owner[8, 8] = 0
    near = touching(owner.T if across else owner, 4)
    pairs = {(int(one), int(other)) for one, other in zip(*np.nonzero(near), strict=True)}
    assert pairs == ({(1, 2), (2, 1)} if distance <= 3 else set())
