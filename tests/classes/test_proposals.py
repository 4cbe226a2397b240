from __future__ import annotations

import numpy as np
import torch

from everymask.backbone.protocol import Canvas, ImageEmbedding
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.proposals import (
    describe_features,
    frame_share,
    full_size_masks,
    occupancy,
    point_grid,
    propose_masks,
)
from everymask.classes.segmenter import describe_masks
from everymask.masks.mask_set import MaskSet
from everymask.masks.rle import decode_mask, encode_masks
from everymask.research.oracle import EXACT, OracleBackbone, drawn_scene
from tests.classes.toy import ColourBackbone, picture

IMAGE = picture([("cherry", (4, 6, 20, 18)), ("lime", (26, 20, 40, 36))])


def propose(config: MaskConfig) -> tuple[MaskSet, ImageEmbedding]:
    backbone = ColourBackbone()
    embedding = backbone.embed([IMAGE])[0]
    return propose_masks(backbone, embedding, config), embedding


def test_the_grid_is_centred_and_inside_the_image() -> None:
    points = point_grid((40, 60), 2)
    assert points.tolist() == [[15.0, 10.0], [45.0, 10.0], [15.0, 30.0], [45.0, 30.0]]


def test_every_distinct_mask_is_proposed_once_however_many_points_are_decoded_at_a_time() -> None:
    # The background is most of the whole image: they count as two masks at a threshold this high.
    at_once, _ = propose(MaskConfig(duplicate_iou_thresh=0.95))
    one_by_one, _ = propose(MaskConfig(duplicate_iou_thresh=0.95, points_per_batch=1))
    assert len(at_once) == 4
    assert torch.equal(at_once.masks, one_by_one.masks)
    assert torch.equal(at_once.tokens, one_by_one.tokens)


def test_masks_of_low_predicted_iou_are_dropped() -> None:
    masks, _ = propose(MaskConfig(pred_iou_thresh=0.6))
    assert len(masks) == 3


def test_frame_share_counts_the_outermost_pixels() -> None:
    masks, embedding = propose(MaskConfig())
    pixels = embedding.canvas.to_pixels(masks.masks).numpy()
    frame = np.ones(pixels.shape[1:], dtype=bool)
    frame[1:-1, 1:-1] = False
    expected = [(mask & frame).sum() / frame.sum() for mask in pixels]
    np.testing.assert_allclose(frame_share(embedding.canvas, masks.masks).numpy(), expected, rtol=1e-6)


def test_occupancy_is_the_share_of_every_box_of_a_grid() -> None:
    masks, embedding = propose(MaskConfig())
    pixels = embedding.canvas.to_pixels(masks.masks).numpy()
    height, width = pixels.shape[1:]
    found = occupancy(embedding.canvas, masks.masks).numpy()
    rows, columns = np.arange(height) * 16 // height, np.arange(width) * 16 // width
    for mask, boxes in zip(pixels, found.reshape(-1, 16, 16), strict=True):
        expected = [[mask[rows == y][:, columns == x].mean() for x in range(16)] for y in range(16)]
        np.testing.assert_allclose(boxes, expected, atol=1e-6)


def test_boxes_without_a_pixel_are_empty() -> None:
    canvas = Canvas(torch.zeros(3, 2, dtype=torch.int64), torch.tensor([6.0]), (3, 2))
    found = occupancy(canvas, torch.ones(1, 1, dtype=torch.bool))
    assert found.shape == (1, 256)
    assert found.unique().tolist() == [0, 1]
    assert int(found.sum()) == 6


def test_described_masks_have_the_original_size_and_their_own_token() -> None:
    backbone = ColourBackbone()
    described = describe_masks(backbone, backbone.embed([IMAGE])[0], ClassesConfig())
    assert described.size_hw == IMAGE.shape[:2]
    for token, rle in zip(described.features.token, described.rles, strict=True):
        np.testing.assert_allclose(token, IMAGE[decode_mask(rle)].mean(axis=0) / 255, atol=2e-3)


class OneAtATime(OracleBackbone):
    """Holds that no two masks of a large picture are brought to its size at once."""

    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        assert len(logits) == 1
        return super().full_resolution_logits(embedding, logits)


def test_masks_of_a_large_picture_are_brought_to_its_size_one_by_one() -> None:
    scene = drawn_scene(3, (1200, 1800))
    backbone = OneAtATime([scene], EXACT)
    (embedding,) = backbone.embed([scene.image])
    config = MaskConfig(points_per_side=3)
    masks = propose_masks(backbone, embedding, config)
    described = full_size_masks(backbone, embedding, masks, describe_features(backbone, embedding, masks, config))
    at_once = OracleBackbone.full_resolution_logits(backbone, embedding, masks.logits) > 0
    assert len(masks) > 3
    assert list(described.rles) == encode_masks(at_once)
