"""Masks that a person drew, described as if a model had proposed them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptableBackbone
from everymask.classes.config import MaskConfig
from everymask.classes.features import MaskFeatures
from everymask.classes.proposals import describe_features
from everymask.masks.interior import interior_points
from everymask.masks.mask_set import MaskSet
from everymask.masks.overlap import mask_iou
from everymask.masks.rle import decode_masks
from everymask.records import Rle

_MASKS_PER_CHUNK = 32
"""Masks decoded at once; bounds memory on large images."""


def canvas_masks(canvas: Canvas, masks: NDArray[np.bool_]) -> torch.Tensor:
    """(M, H, W) bool masks of original pixels → (M, P) bool: the cells at least half covered.

    A canvas pixel takes the value of the image pixel under its centre. A mask that covers half of no cell comes out
    empty.
    """
    height, width = canvas.original_size_hw
    canvas_height, canvas_width = canvas.size_hw
    scale_x, scale_y = canvas.scale_xy
    rows = ((np.arange(canvas_height) + 0.5) / scale_y).astype(np.int64)
    columns = ((np.arange(canvas_width) + 0.5) / scale_x).astype(np.int64)
    on_canvas = masks[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)]
    on_canvas &= (rows < height)[:, None] & (columns < width)
    return canvas.from_pixels(torch.from_numpy(on_canvas).to(canvas.cell_index.device)) >= 0.5


@torch.inference_mode()
def describe_drawn(
    backbone: PromptableBackbone, embedding: ImageEmbedding, rles: Sequence[Rle], config: MaskConfig
) -> MaskFeatures:
    """What a class head reads of masks that a person drew.

    A mask's token is from an answer to its most interior point: the best fitting of the three. Other descriptions are
    of the drawn mask itself (our choice).

    Args:
        backbone: made the embedding.
        embedding: with its picture where `config` names a describer.
        rles: M >= 1 masks at original resolution, none empty.
        config: chooses the descriptions.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
        CheckpointError: the describer's weights are missing.
    """
    parts = [
        describe_features(
            backbone, embedding, _prompted(backbone, embedding, rles[start : start + _MASKS_PER_CHUNK]), config
        )
        for start in range(0, len(rles), _MASKS_PER_CHUNK)
    ]
    names = ("token", "pooled", "crop")
    return MaskFeatures(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _prompted(backbone: PromptableBackbone, embedding: ImageEmbedding, rles: Sequence[Rle]) -> MaskSet:
    """The drawn masks on the canvas, with the tokens of the best fitting answers."""
    canvas = embedding.canvas
    masks = decode_masks(rles, canvas.original_size_hw)
    points = torch.from_numpy(interior_points(masks)).to(backbone.device)
    cells = canvas_masks(canvas, masks).to(backbone.device)
    index = torch.arange(len(cells), device=backbone.device)
    empty = ~cells.any(dim=1)
    cells[index[empty], canvas.cells_at(points)[empty]] = True
    answers = MaskSet.from_prompts(backbone.decode_points(embedding, points), canvas.cell_area)
    fit = torch.stack(
        [
            mask_iou(own[None], three, canvas.cell_area)[0]
            for own, three in zip(cells, answers.masks.reshape(len(cells), -1, canvas.num_cells), strict=True)
        ]
    )
    best = answers[index * fit.shape[1] + fit.argmax(dim=1)]
    logits = torch.where(cells, 1.0, -1.0)
    return MaskSet(cells, logits, best.predicted_iou, best.stability_score, best.point_coords, best.level, best.tokens)
