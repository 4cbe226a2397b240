"""Masks on crops are those of SAM's own generator with the same settings."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import generate_crop_boxes

from everymask.backbone.sam import make_backbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig
from everymask.entities.crops import make_crops, segment_amg_on_crops
from everymask.errors import ConfigurationError
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.entities.scattered import LOOSE, random_image, scattered_sam

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
