"""Which segments SAM's automatic mask generator proposes at all: average recall.

No refinement can recover what was never proposed, so this bounds everything built on the generator's masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig
from everymask.errors import ConfigurationError
from everymask.evaluation.click_accuracy import SIZES_PX, ClickPicture
from everymask.evaluation.matches import IOU_THRESHOLDS
from everymask.masks.rle import encode_masks
from everymask.records import Rle

_PROMPTS_AT_ONCE = 16
"""Each prompt gives three masks at the image's resolution."""


@dataclass(frozen=True)
class Recall:
    """Average recall over IoU 0.50, 0.55, …, 0.95 without a limit on masks; None without segments.

    Attributes:
        masks: proposed per picture, on average.
        recall: over all segments.
        small, medium, large: over segments of COCO's sizes.
        found: share of segments with an IoU of at least 0.5 with some mask.
    """

    masks: float
    recall: float | None
    small: float | None
    medium: float | None
    large: float | None
    found: float | None


def proposal_recall(
    backbone: PromptableBackbone, pictures: Iterable[ClickPicture], config: AmgConfig
) -> dict[str, Recall]:
    """Recall of all masks of the grid (`raw`) and of those left by `config`'s thresholds and NMS (`kept`).

    Raises:
        ConfigurationError: there is no segment to find.
    """
    best: dict[str, list[NDArray[np.float64]]] = {"raw": [], "kept": []}
    counts: dict[str, list[int]] = {"raw": [], "kept": []}
    areas = []
    for picture in pictures:
        embedding = backbone.embed([picture.image])[0]
        areas.append(picture.segments.sum(axis=(1, 2)))
        found, masks = _best_of_grid(backbone, embedding, picture, config)
        best["raw"].append(found)
        counts["raw"].append(masks)
        kept = [mask.rle for mask in segment_amg(backbone, embedding, config).masks]
        best["kept"].append(best_ious(kept, encode_masks(picture.segments)))
        counts["kept"].append(len(kept))
    if not sum(len(area) for area in areas):
        raise ConfigurationError("the ground truth holds no segment to find; give another folder")
    area = np.concatenate(areas)
    return {name: _recall(float(np.mean(counts[name])), np.concatenate(best[name]), area) for name in best}


@torch.inference_mode()
def _best_of_grid(
    backbone: PromptableBackbone, embedding: ImageEmbedding, picture: ClickPicture, config: AmgConfig
) -> tuple[NDArray[np.float64], int]:
    """For each segment the largest IoU with any answer to the grid, and the number of non-empty answers.

    Without run lengths, which take far longer for thousands of masks.
    """
    points = point_grid(embedding.canvas.original_size_hw, config.points_per_side, backbone.device)
    distinct, _ = backbone.distinct_points(embedding, points)
    segments = torch.from_numpy(picture.segments).to(backbone.device).flatten(1).float()
    best, count = segments.new_zeros(len(segments), dtype=torch.float64), 0
    for batch in torch.split(points[distinct], _PROMPTS_AT_ONCE):
        logits = backbone.decode_points(embedding, batch).logits.flatten(0, 1)
        masks = (backbone.full_resolution_logits(embedding, logits) > 0).flatten(1).float()
        inside = (masks @ segments.T).double()  # Whole numbers: an IoU of 0.7 must not fall below the threshold 0.7.
        sizes = masks.sum(dim=1)
        ious = inside / (sizes[:, None] + segments.sum(dim=1) - inside)
        if len(segments):
            best = torch.maximum(best, ious.amax(dim=0))
        count += int((sizes > 0).sum())
    return best.cpu().numpy(), count


def best_ious(masks: Sequence[Rle], segments: Sequence[Rle]) -> NDArray[np.float64]:
    """For each segment the largest IoU with any mask; 0 without masks."""
    if not masks or not segments:
        return np.zeros(len(segments))
    iou: NDArray[np.float64] = np.asarray(coco_mask.iou(list(masks), list(segments), [0] * len(segments)))
    best: NDArray[np.float64] = iou.max(axis=0)
    return best


def _recall(masks: float, best: NDArray[np.float64], area: NDArray[np.int64]) -> Recall:
    # Segments of one annotator are disjoint, so no mask has an IoU above 0.5 with two: matching one to one is the same.
    average = (best[:, None] >= IOU_THRESHOLDS).mean(axis=1)
    by_size = {}
    for name, (least, most) in SIZES_PX.items():
        chosen = average[(area >= least) & (area < most)]
        by_size[name] = float(chosen.mean()) if len(chosen) else None
    return Recall(masks, float(average.mean()), **by_size, found=float((best >= 0.5).mean()))
