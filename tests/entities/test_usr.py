from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.entities.config import EntityConfig, SuperpixelConfig
from everymask.entities.consensus import GridAnswers
from everymask.entities.prompting import decode_grid
from everymask.entities.superpixels import find_superpixels
from everymask.entities.usr import additional_prompts, fill_uncovered, greedy_cover, mask_centroids
from everymask.masks.packed import PackedMasks
from tests.entities.scenes import mask_set, pixels
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (20, 40)
AREA = torch.ones(SIZE[0] * SIZE[1])
NONE = mask_set([rectangle(SIZE, 0, 0, 1, 1)], [0.9])[:0]
NO_PART = PackedMasks.pack(NONE.masks, AREA)


def box(x0: int, x1: int, y0: int = 0, y1: int = 20) -> NDArray[np.bool_]:
    return rectangle(SIZE, x0, y0, x1, y1)


def packed(*masks: NDArray[np.bool_]) -> PackedMasks:
    return PackedMasks.pack(torch.from_numpy(np.stack(masks)).flatten(1), AREA)


LEFT, RIGHT = box(0, 20), box(20, 40)


@pytest.fixture(scope="module")
def two_tone() -> Any:
    """A backbone, an embedding whose superpixels are the two halves, and them."""
    image = np.full((*SIZE, 3), 40, dtype=np.uint8)
    image[:, 20:] = 220
    backbone = ScriptedBackbone([Reply.one(LEFT), Reply.one(RIGHT)], painted(SIZE, RIGHT))
    embedding = backbone.embed([image])[0]
    superpixels = find_superpixels(embedding, SuperpixelConfig(sigma=0.0))
    assert len(superpixels) == 2
    return backbone, embedding, superpixels


def test_an_uncovered_superpixel_is_prompted_at_its_own_centroid(two_tone: Any) -> None:
    _, embedding, superpixels = two_tone
    points = additional_prompts(embedding, mask_set([LEFT], [0.9]), NO_PART, superpixels, EntityConfig())
    np.testing.assert_allclose(points.numpy(), [[30, 10]], atol=1)


@pytest.mark.parametrize(("covered_to", "prompts"), [(29, 1), (30, 0)])
def test_a_superpixel_of_which_half_is_covered_is_not_prompted(two_tone: Any, covered_to: int, prompts: int) -> None:
    _, embedding, superpixels = two_tone
    entities = mask_set([LEFT, box(20, covered_to)], [0.9, 0.9])
    assert len(additional_prompts(embedding, entities, NO_PART, superpixels, EntityConfig())) == prompts


def test_inside_a_part_mask_the_prompt_is_the_centroid_of_the_most_confident(two_tone: Any) -> None:
    _, embedding, superpixels = two_tone
    parts = packed(box(24, 40), box(10, 40), box(16, 40))
    points = additional_prompts(embedding, mask_set([LEFT], [0.9]), parts, superpixels, EntityConfig())
    assert points.tolist() == [[25.0, 10.0]]


def filled_by(
    backbone: ScriptedBackbone, embedding: Any, entities: Any, superpixels: Any, points_per_side: int = 8
) -> list[NDArray[np.bool_]]:
    """What USR makes of some entities without parts, with a grid of so many clicks a side."""
    config = EntityConfig(points_per_side=points_per_side)
    batches = [batch.packed for batch in decode_grid(backbone, embedding, config)]
    grid = GridAnswers.gather(backbone, embedding, points_per_side, batches)
    filled = fill_uncovered(backbone, embedding, entities, NO_PART, superpixels, grid, config)
    return list(pixels(filled.masks, SIZE))


@pytest.mark.parametrize(
    ("answer", "gap"),
    [
        # How sure the model is does not matter.
        (Reply.one(RIGHT, 0.5), [RIGHT]),
        (Reply.one(np.zeros(SIZE, dtype=np.bool_)), []),
        # Eq. 6 chooses the object or the best mask.
        (Reply((RIGHT, box(24, 40), box(30, 40)), (0.85, 0.93, 0.1)), [RIGHT]),
        (Reply((RIGHT, box(24, 40), box(30, 40)), (0.8, 0.93, 0.1)), [box(24, 40)]),
    ],
)
def test_a_gap_is_filled_by_the_mask_that_guides(answer: Reply, gap: list[NDArray[np.bool_]]) -> None:
    backbone = ScriptedBackbone([answer], painted(SIZE))
    embedding = backbone.embed([np.full((*SIZE, 3), 40, dtype=np.uint8)])[0]
    superpixels = find_superpixels(embedding, SuperpixelConfig())
    filled = filled_by(backbone, embedding, mask_set([box(0, 10)], [0.9]), superpixels)
    np.testing.assert_array_equal(filled, [box(0, 10), *gap])


def test_a_mask_that_few_of_the_clicks_inside_it_give_fills_no_gap(two_tone: Any) -> None:
    """The prompt at the right half's centroid gets the whole picture, and so do few of the grid's clicks, or many."""
    _, embedding, superpixels = two_tone
    whole, entities = Reply.one(box(0, 40), 0.99), mask_set([LEFT], [0.9])
    for asked, expected in ((box(28, 33, 8, 13), LEFT), (RIGHT, box(0, 40))):
        backbone = ScriptedBackbone([Reply.one(LEFT), Reply.one(box(39, 40)), whole], painted(SIZE, RIGHT, asked))
        np.testing.assert_array_equal(filled_by(backbone, embedding, entities, superpixels), [expected])


def test_a_covered_image_needs_no_prompt(two_tone: Any) -> None:
    backbone, embedding, superpixels = two_tone
    entities = mask_set([LEFT, RIGHT], [0.9, 0.8])
    assert additional_prompts(embedding, entities, NO_PART, superpixels, EntityConfig()).shape == (0, 2)
    np.testing.assert_array_equal(filled_by(backbone, embedding, entities, superpixels), [LEFT, RIGHT])


def test_the_gap_is_filled_by_the_mask_its_prompt_gives(two_tone: Any) -> None:
    backbone, embedding, superpixels = two_tone
    filled = filled_by(backbone, embedding, mask_set([LEFT], [0.9]), superpixels)
    np.testing.assert_array_equal(filled, [LEFT, RIGHT])


def test_centroids_weigh_pixels_and_scale_to_the_original(two_tone: Any) -> None:
    _, embedding, _ = two_tone
    masks = torch.from_numpy(np.stack([box(10, 20, 0, 4), box(0, 40)])).flatten(1)
    assert mask_centroids(embedding.canvas, masks).tolist() == [[15.0, 2.0], [20.0, 10.0]]


def cover(
    entities: Sequence[NDArray[np.bool_]],
    additional: Sequence[NDArray[np.bool_]],
    consensus: Sequence[float] | None = None,
    **settings: Any,
) -> Any:
    masks = mask_set(additional, [0.9] * len(additional))
    shares = np.array(consensus or [0.5] * len(additional))
    return greedy_cover(entities, masks, shares, AREA, EntityConfig(**settings))


def test_the_mask_that_fills_most_is_taken_and_those_it_makes_useless_are_not() -> None:
    filled = cover(NONE, [box(0, 10), box(0, 30), box(20, 30), box(30, 40)])
    np.testing.assert_array_equal(pixels(filled.masks, SIZE), [box(0, 30), box(30, 40)])


def test_a_smaller_mask_that_more_clicks_give_goes_before_a_larger_one() -> None:
    masks = [box(0, 22), RIGHT]
    np.testing.assert_array_equal(pixels(cover(NONE, masks, [0.5, 0.5]).masks, SIZE), [box(0, 22), box(22, 40)])
    np.testing.assert_array_equal(pixels(cover(NONE, masks, [0.5, 0.9]).masks, SIZE), [RIGHT, LEFT])


def test_a_mask_that_overlaps_an_entity_enough_joins_it_with_what_is_new() -> None:
    filled = cover(mask_set([LEFT, box(30, 40)], [0.9, 0.8]), [box(12, 30)])  # IoU 8/30 with the left half
    np.testing.assert_array_equal(pixels(filled.masks, SIZE), [box(0, 30), box(30, 40)])


def test_a_mask_that_overlaps_an_entity_little_becomes_one_without_the_overlap() -> None:
    filled = cover(mask_set([LEFT], [0.9]), [box(18, 40)])  # IoU 2/40
    np.testing.assert_array_equal(pixels(filled.masks, SIZE), [LEFT, RIGHT])
    assert (filled.logits[1] > 0).sum() == 22 * 20  # the claim stays the model's


def test_gaps_too_small_to_matter_are_left() -> None:
    filled = cover(mask_set([box(0, 39)], [0.9]), [box(39, 40)], min_gain=0.03)
    assert len(filled) == 1
    assert len(cover(mask_set([box(0, 39)], [0.9]), [box(39, 40)], min_gain=0.02)) == 2
