"""What E-SAM's later modules work on when MMG is switched off: SAM's automatic masks, and SAM's object level."""

from __future__ import annotations

import numpy as np
import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.prompting import decode_grid
from everymask.masks.box_nms import box_nms
from everymask.masks.boxes import boxes_from_cells
from everymask.masks.mask_set import Level, MaskSet

_BOX_NMS_THRESH = 0.7
"""SAM's own, as in `AmgConfig`."""


def automatic_masks(
    backbone: PromptableBackbone,
    embedding: ImageEmbedding,
    config: EntityConfig,
    levels: tuple[Level, ...] = (Level.OBJECT, Level.PART, Level.SUBPART),
) -> MaskSet:
    """Masks of those levels that pass the thresholds, after SAM's NMS on boxes, in descending predicted IoU.

    The steps of `segment_amg`, on the canvas instead of at the image's resolution. The object level alone is SAM^O of
    table 2.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    batches = []
    for answers in decode_grid(backbone, embedding, config):
        rows = np.flatnonzero(np.isin(answers.level, levels))
        batches.append(answers.take(answers.confident(rows, config, backbone.name)))
    masks = MaskSet.concatenate(batches)
    boxes = boxes_from_cells(masks.masks, embedding.canvas).to(torch.float32)
    return masks[box_nms(boxes, masks.predicted_iou, _BOX_NMS_THRESH)]
