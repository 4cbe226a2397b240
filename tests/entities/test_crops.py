"""Masks on crops are those of SAM's own generator with the same settings."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import generate_crop_boxes, is_box_near_crop_edge

from everymask.backbone.sam import make_backbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig
from everymask.entities.crops import Crop, make_crops, segment_amg_on_crops
from everymask.errors import ConfigurationError
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.entities.scattered import LOOSE, random_image, scattered_sam
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

CROPPED = replace(
    LOOSE, crop_n_layers=1, pred_iou_thresh=0.9, stability_score_thresh=0.5, box_nms_thresh=0.9, crop_nms_thresh=0.8
)


@pytest.mark.parametrize("size_hw", [(96, 150), (131, 64), (1, 7), (200, 201)])
@pytest.mark.parametrize(("layers", "overlap"), [(0, 0.3), (1, 0.0), (2, 512 / 1500), (3, 0.5)])
def test_crops_lie_where_sam_lays_them(size_hw: tuple[int, int], layers: int, overlap: float) -> None:
    boxes, numbers = generate_crop_boxes(size_hw, layers, overlap)
    crops = make_crops(size_hw, layers, overlap)
    assert [list(crop.box_xyxy) for crop in crops] == boxes
    assert [crop.layer for crop in crops] == numbers


@pytest.mark.parametrize(
    "config",
    [
        CROPPED,
        replace(
            CROPPED,
            crop_n_layers=2,
            crop_n_points_downscale_factor=2,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.4,
        ),
        replace(CROPPED, crop_overlap_ratio=0.1, crop_nms_thresh=1.0),
    ],
)
def test_gives_the_masks_of_sams_own_generator(config: AmgConfig) -> None:
    image = random_image((120, 170))
    options = {name: value for name, value in asdict(config).items() if name != "min_mask_region_area"}
    records = SamAutomaticMaskGenerator(scattered_sam(), **options).generate(image)
    records.sort(key=lambda record: record["predicted_iou"], reverse=True)
    backbone = make_backbone(scattered_sam(), name="vit_b", weights_sha256="0" * 64, device=torch.device("cpu"))
    labels = label_images(backbone, [image], LabelConfig("amg", amg=config))[0]
    assert isinstance(labels, ImageLabels)

    assert len(records) >= 5
    assert any(record["crop_box"][2:] != [170, 120] for record in records)
    assert len(labels.masks) == len(records)
    agreeing = 0
    for mask, record in zip(labels.masks, records, strict=True):
        own, theirs = decode_mask(mask.rle), record["segmentation"]
        agreeing += (own & theirs).sum() >= 0.99 * (own | theirs).sum()
        assert mask.point_coords == pytest.approx(record["point_coords"][0], abs=1e-3)
        rows, columns = np.nonzero(own)
        assert mask.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert agreeing >= 0.98 * len(records)


def test_an_embedding_is_not_enough() -> None:
    backbone = make_backbone(scattered_sam(), name="vit_b", weights_sha256="0" * 64, device=torch.device("cpu"))
    with pytest.raises(ConfigurationError, match="crop_n_layers needs the image"):
        segment_amg(backbone, backbone.embed([random_image((20, 20))])[0], CROPPED)


def test_without_crops_it_is_the_plain_generator() -> None:
    backbone = make_backbone(scattered_sam(), name="vit_b", weights_sha256="0" * 64, device=torch.device("cpu"))
    plain, image = replace(CROPPED, crop_n_layers=0), random_image((96, 150))
    assert segment_amg_on_crops(backbone, image, plain) == segment_amg(backbone, backbone.embed([image])[0], plain)


@pytest.mark.parametrize(
    ("field", "value"), [("crop_n_layers", -1), ("crop_overlap_ratio", 1.0), ("crop_n_points_downscale_factor", 0)]
)
def test_settings_that_mean_nothing_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=field):
        AmgConfig(**{field: value})


@pytest.mark.parametrize("corner", [(0, 0), (30, 25), (60, 50), (15, 50)])
@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("gap", [0, 19, 20, 21])
def test_masks_that_a_crop_cuts_off_are_those_of_sams_rule(corner: tuple[int, int], side: int, gap: int) -> None:
    """A picture of 160 x 150, a crop of 100 x 100, and in it a mask with so wide a gap to one of the crop's sides."""
    edges = [30, 30, 70, 70]
    edges[side] = gap if side < 2 else 100 - gap
    mask = rectangle((100, 100), *edges)
    backbone = ScriptedBackbone([Reply.one(mask)], painted((100, 100)))
    crop = Crop(1, (*corner, corner[0] + 100, corner[1] + 100))
    config = AmgConfig(pred_iou_thresh=0.0, stability_score_thresh=0.0, points_per_side=1)
    labels = segment_amg_on_crops(backbone, np.zeros((150, 160, 3), dtype=np.uint8), config, [crop])
    last_pixels = torch.tensor([[edges[0], edges[1], edges[2] - 1, edges[3] - 1]])
    cut_off = bool(is_box_near_crop_edge(last_pixels, list(crop.box_xyxy), [0, 0, 160, 150]))
    assert len(labels.masks) == (0 if cut_off else 1)
    if not cut_off:
        x, y = corner
        expected = np.zeros((150, 160), dtype=np.bool_)
        expected[y : y + 100, x : x + 100] = mask
        np.testing.assert_array_equal(decode_mask(labels.masks[0].rle), expected)
        assert labels.masks[0].point_coords == (x + 50, y + 50)
