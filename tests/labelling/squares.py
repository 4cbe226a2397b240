"""A method that everymask does not have: one square for every image, or two where it is tiled."""

from __future__ import annotations

import numpy as np

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.head import ClassHead
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.method import Method
from everymask.masks.labelled import labelled_masks
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels

LOADED: list[str] = []


def _segment(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: LabelConfig, head: ClassHead | None
) -> ImageLabels:
    size_hw = embedding.canvas.original_size_hw
    square = np.zeros(size_hw, dtype=np.bool_)
    square[4:8, 4:8] = True
    masks = labelled_masks(
        [encode_mask(square)], predicted_iou=[0.9], stability_score=[0.9], point_coords=[[5.0, 5.0]], score=[0.9]
    )
    return ImageLabels(size_hw, tuple(masks), float(square.mean()))


METHOD = Method(_segment, load=lambda config, backbone: LOADED.append(backbone.device.type))
