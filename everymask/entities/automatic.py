"""What E-SAM's later modules work on when MMG is switched off: SAM's automatic masks, and SAM's object level."""

from __future__ import annotations

import torch
from torchvision.ops import nms

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.prompting import decode_grid, passes_thresholds
from everymask.masks.boxes import boxes_from_cells
from everymask.masks.mask_set import Level, MaskSet

_BOX_NMS_THRESH = 0.7
"""SAM's own, as in `AmgConfig`."""


def automatic_masks(backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> MaskSet:
    """Masks of all levels that pass the thresholds, after SAM's NMS on boxes, in descending predicted IoU.

    The steps of `segment_amg`, on the canvas instead of at the image's resolution.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    return _thinned(_confident_masks(backbone, embedding, config), embedding)


def object_masks(backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> MaskSet:
    """`automatic_masks` of the object level alone (SAM^O in table 2).

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    masks = _confident_masks(backbone, embedding, config)
    return _thinned(masks[masks.level == Level.OBJECT], embedding)


def _confident_masks(backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> MaskSet:
    batches = decode_grid(backbone, embedding, config)
    return MaskSet.concatenate([answers[passes_thresholds(answers, config, backbone.name)] for answers in batches])


def _thinned(masks: MaskSet, embedding: ImageEmbedding) -> MaskSet:
    boxes = boxes_from_cells(masks.masks, embedding.canvas).to(torch.float32)
    return masks[nms(boxes, masks.predicted_iou, _BOX_NMS_THRESH)]
