"""SAM's automatic mask generator, E-SAM's baseline: the masks of a grid of clicks, without bad and double ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from everymask.backbone.constants import prompts_at_a_time, to_host
from everymask.backbone.full_resolution import masks_at_a_time
from everymask.backbone.points import point_grid
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone, PromptMasks
from everymask.backbone.sure_points import decode_sure_points
from everymask.entities.config import AmgConfig
from everymask.entities.prompting import confidence_thresholds
from everymask.errors import ConfigurationError
from everymask.masks.box_nms import box_nms
from everymask.masks.labelled import labelled_masks
from everymask.masks.regions import drop_small_islands, fill_small_holes
from everymask.masks.rle import boxes_from_rles, decode_mask, encode_mask, encode_masks, rle_areas, rle_coverage
from everymask.masks.stability import above
from everymask.records import ImageLabels, LabelledMask, Rle


@torch.no_grad()
def segment_amg(backbone: PromptableBackbone, embedding: ImageEmbedding, config: AmgConfig) -> ImageLabels:
    """All masks that a grid of foreground clicks gives; they may overlap.

    With the official SAM these are the masks of `SamAutomaticMaskGenerator` at the same settings, without empty ones.
    Predicted IoU is checked before a mask is scaled up, and kept masks are compressed, so memory does not grow with the
    number of prompts.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
        ConfigurationError: crops are asked for; see `everymask.entities.crops`.
    """
    if config.crop_n_layers:
        raise ConfigurationError(
            "crop_n_layers needs the image itself, and this is its embedding; label with crops by a job or the library"
        )
    size_hw = embedding.canvas.original_size_hw
    masks = grid_masks(backbone, embedding, config, config.points_per_side)
    return finish(suppress(masks, [mask.estimate for mask in masks], config.box_nms_thresh), size_hw, config)


def grid_masks(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: AmgConfig, points_per_side: int
) -> list[LabelledMask]:
    """The masks that pass both thresholds, in the order of the grid's points."""
    points = point_grid(embedding.canvas.original_size_hw, points_per_side, backbone.device)
    # Points that get the same answer give the same mask, of which the NMS would keep one.
    distinct, _ = backbone.distinct_points(embedding, points)
    masks: list[LabelledMask] = []
    at_a_time = config.points_per_batch or prompts_at_a_time(points.device)
    least = confidence_thresholds(backbone.name, config.pred_iou_thresh)
    for batch in torch.split(points[distinct], at_a_time):
        answers = decode_sure_points(backbone, embedding, batch, least.pred_iou)
        masks += _good_masks(backbone, embedding, answers, config)
    return masks


def finish(masks: list[LabelledMask], size_hw: tuple[int, int], config: AmgConfig) -> ImageLabels:
    """Masks after NMS and, if set, without small regions, in descending predicted IoU."""
    if config.min_mask_region_area:
        masks = _without_small_regions(masks, config)
    masks.sort(key=lambda mask: mask.estimate, reverse=True)
    return ImageLabels(size_hw, tuple(masks), rle_coverage([mask.rle for mask in masks], size_hw))


def _good_masks(
    backbone: PromptableBackbone, embedding: ImageEmbedding, answers: PromptMasks, config: AmgConfig
) -> list[LabelledMask]:
    """The answers (N, 3) that pass both thresholds, in order, at the image's resolution."""
    predicted_iou = answers.predicted_iou.flatten()
    logits = answers.logits.flatten(0, 1)
    wanted = torch.arange(len(logits), device=logits.device)
    least = confidence_thresholds(backbone.name, config.pred_iou_thresh, config.stability_score_thresh)
    if least.pred_iou > 0:
        wanted = wanted[predicted_iou > least.pred_iou]
    good = []
    for chunk in torch.split(wanted, masks_at_a_time(embedding.canvas.original_size_hw, logits.device)):
        full = backbone.full_resolution_logits(embedding, logits[chunk])
        strict = _count(above(full, config.stability_score_offset))
        loose = _count(above(full, -config.stability_score_offset))
        # The stricter mask lies inside the looser one, so the ratio of their areas is their IoU.
        stability = torch.where(loose > 0, strict / loose, 0)
        stable = (stability >= least.stability_score).nonzero().squeeze(1)
        origin = chunk[stable]
        estimates, ratings, points = to_host(
            predicted_iou[origin],
            stability[stable],
            answers.point_coords[origin // answers.predicted_iou.shape[1]],
        )
        good += labelled_masks(
            encode_masks(above(full[stable], 0)),
            predicted_iou=estimates.tolist(),
            stability_score=ratings.tolist(),
            point_coords=points.tolist(),
            score=estimates.tolist(),
        )
    return good


def _count(masks: torch.Tensor) -> torch.Tensor:
    """(M,) int64 pixels in (M, H, W) masks."""
    if masks.device.type == "cpu":
        return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()], dtype=torch.int64)
    return masks.flatten(1).sum(1)


def suppress(masks: list[LabelledMask], scores: Sequence[float], iou_thresh: float) -> list[LabelledMask]:
    """Greedy NMS on boxes, in descending score; ties keep their order."""
    if not masks:
        return []
    boxes = torch.tensor([mask.box_xyxy for mask in masks], dtype=torch.float32)
    # SAM's boxes end on the last pixel; its threshold was chosen for them.
    boxes[:, 2:] -= 1
    return [masks[index] for index in box_nms(boxes, torch.tensor(scores), iou_thresh).tolist()]


def _without_small_regions(masks: list[LabelledMask], config: AmgConfig) -> list[LabelledMask]:
    """Fill holes and drop islands; of two masks that this makes alike, the one that was already clean stays."""
    cleaned, unchanged = [], []
    for mask in masks:
        before = decode_mask(mask.rle)
        after = fill_small_holes(before, config.min_mask_region_area)
        after = drop_small_islands(after, config.min_mask_region_area)
        same = bool(np.array_equal(before, after))
        cleaned.append(mask if same else _with_rle(mask, encode_mask(after)))
        unchanged.append(float(same))
    return suppress(cleaned, unchanged, max(config.box_nms_thresh, config.crop_nms_thresh))


def _with_rle(mask: LabelledMask, rle: Rle) -> LabelledMask:
    x0, y0, x1, y1 = boxes_from_rles([rle])[0].tolist()
    return replace(mask, rle=rle, box_xyxy=(x0, y0, x1, y1), area=int(rle_areas([rle])[0]))
