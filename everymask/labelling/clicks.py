"""Interactive segmentation: clicks and a box on one image → up to three candidate masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from everymask.backbone.full_resolution import masks_at_a_time
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.errors import InputError
from everymask.masks.labelled import labelled_masks
from everymask.masks.rle import encode_masks
from everymask.masks.stability import stability_scores
from everymask.records import ImageLabels


@dataclass(frozen=True)
class ClickPrompt:
    """What a person pointed at, all on one object.

    Attributes:
        point_coords: clicks (x, y) in original pixels.
        point_labels: one for each click, 1 on the object, 0 off it.
        box_xyxy: half-open box in original pixels, or None; needed if there is no click on the object.
    """

    point_coords: tuple[tuple[float, float], ...] = ()
    point_labels: tuple[int, ...] = ()
    box_xyxy: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.point_coords) != len(self.point_labels):
            raise InputError(
                f"every click needs a label: got {len(self.point_coords)} point_coords "
                f"and {len(self.point_labels)} point_labels"
            )
        if set(self.point_labels) - {0, 1}:
            raise InputError("point_labels must be 1 (on the object) or 0 (off it)")
        if self.box_xyxy is None and 1 not in self.point_labels:
            raise InputError("the prompt points at nothing; give at least one click with label 1, or a box")
        if self.box_xyxy is not None:
            x0, y0, x1, y1 = self.box_xyxy
            if not (x0 < x1 and y0 < y1):
                raise InputError(f"the box {self.box_xyxy} is empty; give (x0, y0, x1, y1) with x0 < x1 and y0 < y1")

    def check_inside(self, size_hw: tuple[int, int]) -> None:
        """InputError, naming the click or box, if one lies outside an image of (height, width) pixels."""
        height, width = size_hw
        # Written so that NaN fails too.
        for x, y in self.point_coords:
            if not (0 <= x < width and 0 <= y < height):
                raise InputError(f"the click ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels")
        if self.box_xyxy is not None:
            x0, y0, x1, y1 = self.box_xyxy
            if not (min(x0, y0) >= 0 and x1 <= width and y1 <= height):
                raise InputError(
                    f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) reaches outside the image of {width} x {height} pixels"
                )

    @property
    def anchor(self) -> tuple[float, float]:
        """The first click on the object, else the middle of the box."""
        for point, label in zip(self.point_coords, self.point_labels, strict=True):
            if label == 1:
                return point
        assert self.box_xyxy is not None
        x0, y0, x1, y1 = self.box_xyxy
        return ((x0 + x1) / 2, (y0 + y1) / 2)


@torch.inference_mode()
def segment_clicks(
    backbone: PromptableBackbone, embedding: ImageEmbedding, prompt: ClickPrompt, max_masks: int = 3
) -> ImageLabels:
    """The model's best `max_masks` candidates (1 to 3) for one object, best predicted IoU first.

    Candidates answer the same question, so they may overlap; empty ones are left out. `coverage` is the best one's.

    Raises:
        InputError: a click or the box lies outside the image.
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    size_hw = embedding.canvas.original_size_hw
    prompt.check_inside(size_hw)
    device = backbone.device
    box = None if prompt.box_xyxy is None else torch.tensor(prompt.box_xyxy, device=device)
    answer = backbone.decode_clicks(
        embedding,
        torch.tensor(prompt.point_coords, dtype=torch.float32, device=device).reshape(-1, 2),
        torch.tensor(prompt.point_labels, dtype=torch.int64, device=device),
        box,
    )
    order = answer.predicted_iou[0].argsort(descending=True, stable=True)[:max_masks]
    logits, predicted_iou = answer.logits[0, order], answer.predicted_iou[0, order].tolist()
    stability = stability_scores(logits, embedding.canvas.cell_area).tolist()
    rles = [
        rle
        for chunk in torch.split(logits, masks_at_a_time(size_hw, logits.device))
        for rle in encode_masks(backbone.full_resolution_logits(embedding, chunk) > 0)
    ]
    masks = labelled_masks(
        rles,
        predicted_iou=predicted_iou,
        stability_score=stability,
        point_coords=[prompt.anchor] * len(rles),
        score=predicted_iou,
    )
    coverage = masks[0].area / (size_hw[0] * size_hw[1]) if masks else 0.0
    return ImageLabels(size_hw, tuple(masks), coverage)
