"""The masks that a class head classifies: SAM's answers to a point grid, without duplicates."""

from __future__ import annotations

import numpy as np
import torch

from everymask.backbone.constants import prompts_at_a_time
from everymask.backbone.full_resolution import masks_at_a_time
from everymask.backbone.points import point_grid
from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptableBackbone
from everymask.backbone.sure_points import decode_sure_points
from everymask.classes.config import MaskConfig
from everymask.classes.describers.imagenet import imagenet_describer
from everymask.classes.embeddings import OCCUPANCY_SIDE, MaskEmbeddings
from everymask.classes.features import MaskFeatures
from everymask.masks.mask_set import MaskSet
from everymask.masks.nms import cell_mask_nms
from everymask.masks.rle import encode_masks


@torch.inference_mode()
def propose_masks(backbone: PromptableBackbone, embedding: ImageEmbedding, config: MaskConfig) -> MaskSet:
    """Prompt with a grid and keep the distinct, non-empty masks that pass the thresholds, best predicted IoU first.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    points = point_grid(embedding.canvas.original_size_hw, config.points_per_side, backbone.device)
    representative, _ = backbone.distinct_points(embedding, points)
    area = embedding.canvas.cell_area
    proposed = []
    at_a_time = config.points_per_batch or prompts_at_a_time(points.device)
    for batch in torch.split(points[representative], at_a_time):
        decoded = decode_sure_points(backbone, embedding, batch, config.pred_iou_thresh)
        answers = MaskSet.from_prompts(decoded, area, config.stability_score_offset)
        passes = (
            (answers.predicted_iou >= config.pred_iou_thresh)
            & (answers.stability_score >= config.stability_score_thresh)
            & answers.masks.any(dim=1)
        )
        proposed.append(answers[passes])
    masks = MaskSet.concatenate(proposed)
    kept = cell_mask_nms(masks.masks, masks.predicted_iou, config.duplicate_iou_thresh, area)
    masks = masks[kept[: config.max_masks]]
    return masks if config.describer == "none" else _worth_describing(masks, area, config)


def _worth_describing(masks: MaskSet, cell_area: torch.Tensor, config: MaskConfig) -> MaskSet:
    """The masks for a describer, likely wholes first: of equal estimates the larger is more often a whole."""
    share = masks.masks.to(cell_area.dtype) @ cell_area / cell_area.sum()
    rank = masks.predicted_iou * share**0.25
    order = rank.argsort(descending=True, stable=True)
    return masks[order[share[order] >= config.min_described_area][: config.max_described]]


@torch.inference_mode()
def describe_features(
    backbone: PromptableBackbone, embedding: ImageEmbedding, masks: MaskSet, config: MaskConfig
) -> MaskFeatures:
    """What a class head reads of masks.

    Raises:
        CheckpointError: the describer's weights are missing.
    """
    pooled = backbone.pool_features(embedding, masks.masks)
    crop = torch.zeros(len(masks.masks), 0)
    if config.describer == "crop":
        if embedding.picture is None:
            raise ValueError("a describer needs the embedding's picture; embed with keep_picture=True")
        picture = torch.tensor(embedding.picture)
        crop = imagenet_describer(backbone.device).describe(picture, embedding.canvas, masks.masks)
    return MaskFeatures(*(part.cpu().numpy().astype(np.float16) for part in (masks.tokens, pooled, crop)))


def frame_share(canvas: Canvas, masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool masks → (M,) float32, share of the canvas's outermost pixels in each mask, [0, 1]."""
    frame = torch.ones_like(canvas.cell_index, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    in_cell = torch.bincount(canvas.cell_index[frame], minlength=canvas.num_cells).to(torch.float32)
    return masks.to(torch.float32) @ in_cell / frame.sum()


def occupancy(canvas: Canvas, masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool masks → (M, OCCUPANCY_SIDE²) float32, how much of each box of a grid a mask covers.

    Boxes are in rows from the top; on a canvas with fewer pixels than boxes, those without a pixel are 0.
    """
    height, width = canvas.size_hw
    device = canvas.cell_index.device
    rows = torch.arange(height, device=device) * OCCUPANCY_SIDE // height
    columns = torch.arange(width, device=device) * OCCUPANCY_SIDE // width
    box = (rows[:, None] * OCCUPANCY_SIDE + columns).flatten()
    pixels = torch.bincount(box, minlength=OCCUPANCY_SIDE**2).to(torch.float32)
    # A cell lies in few boxes: dense, this matrix would be 256 times the canvas for backbones whose cells are pixels.
    share = torch.sparse_coo_tensor(
        torch.stack([box, canvas.cell_index.flatten()]),
        1 / pixels[box],
        (OCCUPANCY_SIDE**2, canvas.num_cells),
        check_invariants=True,
    )
    covered: torch.Tensor = torch.sparse.mm(share, masks.to(torch.float32).T)
    return covered.T.clamp(0, 1)


@torch.inference_mode()
def full_size_masks(
    backbone: PromptableBackbone, embedding: ImageEmbedding, masks: MaskSet, features: MaskFeatures
) -> MaskEmbeddings:
    """Bring masks to original resolution and pack them with their features."""
    at_a_time = masks_at_a_time(embedding.canvas.original_size_hw, masks.logits.device)
    rles = [
        rle
        for chunk in torch.split(masks.logits, at_a_time)
        for rle in encode_masks(backbone.full_resolution_logits(embedding, chunk) > 0)
    ]
    return MaskEmbeddings(
        size_hw=embedding.canvas.original_size_hw,
        features=features,
        predicted_iou=masks.predicted_iou.cpu().numpy().astype(np.float32),
        stability_score=masks.stability_score.cpu().numpy().astype(np.float32),
        frame_share=frame_share(embedding.canvas, masks.masks).cpu().numpy(),
        occupancy=(occupancy(embedding.canvas, masks.masks) * 255).round().to(torch.uint8).cpu().numpy(),
        point_coords=masks.point_coords.cpu().numpy().astype(np.float32),
        rles=tuple(rles),
        backbone=backbone.name,
        weights_sha256=backbone.weights_sha256,
    )
