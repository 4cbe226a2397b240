"""The automatic mask generator on crops of an image, which finds what is small in the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import PromptableBackbone
from everymask.entities.amg import finish, grid_masks, suppress
from everymask.entities.config import AmgConfig
from everymask.masks.runs import crop_of, rle_from_crop
from everymask.records import ImageLabels, LabelledMask

_EDGE_PX = 20.0
"""A mask whose box ends this close to a crop's edge inside the image is taken to be cut off there (SAM's own value)."""


@dataclass(frozen=True)
class Crop:
    """A part of an image.

    Attributes:
        layer: 0 for the whole image, then 1 for 2 x 2 crops, 2 for 4 x 4 …
        box_xyxy: in original pixels, half-open.
    """

    layer: int
    box_xyxy: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        x0, y0, x1, y1 = self.box_xyxy
        return (x1 - x0) * (y1 - y0)


def make_crops(size_hw: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole image, then the crops of each layer column by column; as `segment_anything` lays them out.

    Args:
        layers: layers of crops beside the whole image.
        overlap_ratio: by which share of the image's shorter side the crops of layer 1 overlap; half of it in layer 2 …
    """
    height, width = size_hw
    crops = [Crop(0, (0, 0, width, height))]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(size_hw) * (2 / per_side))
        crop_width, crop_height = (math.ceil((overlap * (per_side - 1) + side) / per_side) for side in (width, height))
        lefts = [(crop_width - overlap) * index for index in range(per_side)]
        tops = [(crop_height - overlap) * index for index in range(per_side)]
        crops += [
            Crop(layer, (x, y, min(x + crop_width, width), min(y + crop_height, height)))
            for x, y in itertools.product(lefts, tops)
        ]
    return crops


@torch.no_grad()
def segment_amg_on_crops(
    backbone: PromptableBackbone, image: NDArray[np.uint8], config: AmgConfig, crops: Sequence[Crop] | None = None
) -> ImageLabels:
    """All masks of an image and of its crops. With the official SAM these are the masks of
    `SamAutomaticMaskGenerator` with the same settings, but for empty masks, which are left out.

    Args:
        image: RGB uint8 (H, W, 3).
        config: settings of the generator.
        crops: the whole image, then parts of it; None are those that `config` asks for.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    size_hw = (image.shape[0], image.shape[1])
    masks: list[LabelledMask] = []
    preferences: list[float] = []
    if crops is None:
        crops = make_crops(size_hw, config.crop_n_layers, config.crop_overlap_ratio)
    for crop in crops:
        found = _masks_of_crop(backbone, image, crop, config)
        masks += found
        preferences += [1 / crop.area] * len(found)  # What a smaller crop shows is seen in more detail.
    if len(crops) > 1:
        masks = suppress(masks, preferences, config.crop_nms_thresh)
    return finish(masks, size_hw, config)


def _masks_of_crop(
    backbone: PromptableBackbone, image: NDArray[np.uint8], crop: Crop, config: AmgConfig
) -> list[LabelledMask]:
    x0, y0, x1, y1 = crop.box_xyxy
    (embedding,) = backbone.embed([np.ascontiguousarray(image[y0:y1, x0:x1])])
    points_per_side = max(1, int(config.points_per_side / config.crop_n_points_downscale_factor**crop.layer))
    masks = grid_masks(backbone, embedding, config, points_per_side)
    size_hw = (image.shape[0], image.shape[1])
    whole = [mask for mask in masks if not _is_cut_off(mask, crop, size_hw)]
    kept = suppress(whole, [mask.estimate for mask in whole], config.box_nms_thresh)
    return kept if crop.layer == 0 else [_in_image(mask, crop, size_hw) for mask in kept]


def _is_cut_off(mask: LabelledMask, crop: Crop, size_hw: tuple[int, int]) -> bool:
    """Whether its box ends at an edge of the crop that is no edge of the image."""
    left, top = crop.box_xyxy[:2]
    x0, y0, x1, y1 = mask.box_xyxy
    box = (x0 + left, y0 + top, x1 - 1 + left, y1 - 1 + top)  # SAM's boxes end on the last pixel.
    edges = (0, 0, size_hw[1], size_hw[0])
    return any(
        abs(side - at_crop) <= _EDGE_PX < abs(side - at_image)
        for side, at_crop, at_image in zip(box, crop.box_xyxy, edges, strict=True)
    )


def _in_image(mask: LabelledMask, crop: Crop, size_hw: tuple[int, int]) -> LabelledMask:
    """A mask of a crop in the frame of the image."""
    left, top = crop.box_xyxy[:2]
    x0, y0, x1, y1 = mask.box_xyxy
    x, y = mask.point_coords
    return replace(
        mask,
        rle=rle_from_crop(crop_of(mask.rle, mask.box_xyxy), (x0 + left, y0 + top), size_hw),
        box_xyxy=(x0 + left, y0 + top, x1 + left, y1 + top),
        point_coords=(x + left, y + top),
    )
