"""The automatic mask generator: SAM's own masks, and cases known by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from everymask.backbone.sam import make_backbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig
from everymask.errors import ConfigurationError
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.entities.scattered import LOOSE, random_image, scattered_sam
from tests.entities.scripted import Reply, ScriptedBackbone

SIZES_HW = [(96, 150), (131, 64)]


def segment(sam: Sam, image: NDArray[np.uint8], config: AmgConfig) -> ImageLabels:
    backbone = make_backbone(sam, name="vit_b", weights_sha256="0" * 64, device=torch.device("cpu"))
    return segment_amg(backbone, backbone.embed([image])[0], config)


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize(
    "settings",
    [
        {"pred_iou_thresh": 0.9, "stability_score_thresh": 0.58, "box_nms_thresh": 0.9},
        {"pred_iou_thresh": 1.3, "stability_score_thresh": 0.33, "box_nms_thresh": 1.0},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.58, "box_nms_thresh": 0.7},
    ],
)
def test_gives_the_masks_of_sams_own_generator(size_hw: tuple[int, int], settings: dict[str, float]) -> None:
    image, config = random_image(size_hw), replace(LOOSE, **settings)
    options = {name: value for name, value in asdict(config).items() if name != "min_mask_region_area"}
    records = SamAutomaticMaskGenerator(scattered_sam(), **options).generate(image)
    records.sort(key=lambda record: record["predicted_iou"], reverse=True)
    labels = segment(scattered_sam(), image, config)

    assert len(records) > 5
    assert len(labels.masks) == len(records)
    agreeing = 0
    for mask, record in zip(labels.masks, records, strict=True):
        own, theirs = decode_mask(mask.rle), record["segmentation"]
        agreeing += (own & theirs).sum() >= 0.99 * (own | theirs).sum()
        assert mask.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-4)
        assert mask.stability_score == pytest.approx(record["stability_score"], abs=0.01)
        assert mask.point_coords == pytest.approx(record["point_coords"][0], abs=1e-3)
    assert agreeing >= 0.98 * len(records)
    union = np.any([record["segmentation"] for record in records], axis=0)
    assert labels.coverage == pytest.approx(union.mean(), abs=0.01)


def test_records_describe_their_masks() -> None:
    labels = segment(
        scattered_sam(), random_image((96, 150)), replace(LOOSE, pred_iou_thresh=0.9, stability_score_thresh=0.58)
    )
    assert labels.size_hw == (96, 150)
    assert [mask.score for mask in labels.masks] == sorted((mask.score for mask in labels.masks), reverse=True)
    for mask in labels.masks:
        pixels = decode_mask(mask.rle)
        rows, columns = np.nonzero(pixels)
        assert mask.area == pixels.sum() > 0
        assert mask.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert 0 <= mask.score <= 1


def rectangle(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros((40, 60), dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def segment_halves(left: Reply, right: Reply, config: AmgConfig) -> ImageLabels:
    """Prompts in the left half of a 60 x 40 image get one answer, those in the right half the other."""
    answer_map = np.repeat([[0] * 30 + [1] * 30], 40, axis=0)
    backbone = ScriptedBackbone([left, right], answer_map)
    return segment_amg(backbone, backbone.embed([np.zeros((40, 60, 3), dtype=np.uint8)])[0], config)


def test_of_two_similar_boxes_the_better_mask_stays() -> None:
    worse, better = (
        Reply.one(rectangle(10, 10, 30, 30), 0.9),
        Reply.one(rectangle(11, 10, 31, 30), 0.95),
    )
    labels = segment_halves(worse, better, AmgConfig(points_per_side=4))
    assert [mask.box_xyxy for mask in labels.masks] == [(11, 10, 31, 30)]
    both = segment_halves(worse, better, AmgConfig(points_per_side=4, box_nms_thresh=0.95))
    assert [mask.predicted_iou for mask in both.masks] == pytest.approx([0.95, 0.9])


def test_drops_masks_below_the_predicted_iou_and_empty_ones() -> None:
    poor, empty = Reply.one(rectangle(0, 0, 9, 9), 0.5), Reply.one(rectangle(0, 0, 0, 0))
    labels = segment_halves(poor, empty, AmgConfig(points_per_side=2, stability_score_thresh=0))
    assert labels.masks == ()
    assert labels.coverage == 0


def test_small_regions_are_removed_and_doubles_with_them() -> None:
    clean = rectangle(10, 10, 30, 30)
    holed = clean.copy()
    holed[15, 15] = False
    speckled = clean | rectangle(50, 5, 52, 6)
    config = AmgConfig(points_per_side=2, min_mask_region_area=4)
    labels = segment_halves(Reply.one(holed), Reply.one(speckled, 0.9), config)
    assert len(labels.masks) == 1
    assert np.array_equal(decode_mask(labels.masks[0].rle), clean)
    assert labels.masks[0].area == 400
    assert labels.masks[0].box_xyxy == (10, 10, 30, 30)
    kept = segment_halves(Reply.one(holed), Reply.one(speckled, 0.9), replace(config, min_mask_region_area=0))
    assert sorted(mask.area for mask in kept.masks) == [399, 402]


def test_of_two_masks_that_cleaning_makes_alike_the_clean_one_stays_however_sure() -> None:
    clean = rectangle(10, 10, 30, 30)
    speckled = clean | rectangle(50, 5, 52, 6)
    config = AmgConfig(points_per_side=2, min_mask_region_area=4)
    for left, right in ((Reply.one(clean, 0.9), Reply.one(speckled)), (Reply.one(speckled), Reply.one(clean, 0.9))):
        (mask,) = segment_halves(left, right, config).masks
        assert mask.predicted_iou == pytest.approx(0.9)


@pytest.mark.parametrize(
    "settings",
    [{"points_per_side": 0}, {"points_per_batch": 0}, {"min_mask_region_area": -1}, {"stability_score_offset": -1}],
)
def test_impossible_settings_are_named(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        AmgConfig(**settings)
