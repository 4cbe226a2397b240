"""Answers to several clicks and a box from one-click answers, since the model is trained on single clicks only."""

from __future__ import annotations

import torch

from everymask.backbone.protocol import Canvas

_OUTSIDE = -12.0
"""Logit of cells that a box or a background click rules out."""
_BOX_PROMPTS = 24
"""Cells inside a box that are prompted when there is no foreground click."""

CellAnswers = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(N, 3, P) logits, (N, 3) predicted IoU, (N, 3, C) tokens."""


def _inside_box(canvas: Canvas, box_xyxy: torch.Tensor) -> torch.Tensor:
    """(P,) float32: the share of each cell inside a box in original pixels."""
    height, width = canvas.size_hw
    device = canvas.cell_index.device
    scale_x, scale_y = canvas.scale_xy
    rows = (torch.arange(height, device=device) + 0.5) / scale_y
    columns = (torch.arange(width, device=device) + 0.5) / scale_x
    x0, y0, x1, y1 = box_xyxy.unbind()
    inside = ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))[None]
    share: torch.Tensor = canvas.from_pixels(inside)
    return share


def prompting_cells(canvas: Canvas, point_coords: torch.Tensor, box_xyxy: torch.Tensor | None) -> torch.Tensor:
    """(K,) int64 cells to prompt: those under the foreground clicks, else cells inside the box.

    `point_coords` are (F, 2) foreground clicks (x, y) in original pixels.
    """
    if len(point_coords) or box_xyxy is None:
        return canvas.cells_at(point_coords)
    value = _inside_box(canvas, box_xyxy).square() * canvas.cell_area
    order = value.argsort(descending=True, stable=True)[:_BOX_PROMPTS]
    chosen = order[value[order] > 0]
    centre = canvas.cells_at(box_xyxy.view(2, 2).mean(dim=0)[None])
    return torch.cat([centre, chosen[chosen != centre]])


def combine_answers(
    canvas: Canvas,
    answers: CellAnswers,
    cells: torch.Tensor,
    off_cells: torch.Tensor,
    point_coords: torch.Tensor,
    box_xyxy: torch.Tensor | None,
) -> CellAnswers:
    """Three masks for one prompt, N = 1.

    A candidate's score is its predicted IoU times its agreement with the prompt: the share of foreground clicks inside,
    the share of background clicks outside, the IoU of its cells' extent with the box. A single foreground click alone
    gives that click's own answer.

    Args:
        answers: those of `cells`, then those of `off_cells` (background clicks).
    """
    logits, predicted_iou, tokens = answers
    if len(cells) == 1 and not len(off_cells) and box_xyxy is None:
        return answers
    count = len(cells)
    candidate, score, token = (
        logits[:count].flatten(0, 1),
        predicted_iou[:count].flatten(),
        tokens[:count].flatten(0, 1),
    )
    if len(point_coords) > 1:
        # What several clicks ask for together may be no single answer: the union of each output is a candidate too.
        candidate = torch.cat([candidate, logits[:count].amax(dim=0)])
        score = torch.cat([score, predicted_iou[:count].mean(dim=0)])
        token = torch.cat([token, tokens[:count].mean(dim=0)])
    agreement = score.clone()
    if len(point_coords):
        agreement = agreement * (candidate[:, cells] > 0).float().mean(dim=1)
    if len(off_cells):
        agreement = agreement * (0.05 + (candidate[:, off_cells] <= 0).float().mean(dim=1))
        candidate = _cut_off(candidate, logits[count:], predicted_iou[count:], cells, off_cells)
    if box_xyxy is not None:
        share = _inside_box(canvas, box_xyxy)
        candidate = candidate.masked_fill(share < 0.5, _OUTSIDE)
        agreement = agreement * _box_iou(canvas, candidate > 0, box_xyxy)
    order = agreement.argsort(descending=True, stable=True)[:3]
    order = torch.cat([order, order[-1:].expand(3 - len(order))])
    return candidate[order][None], agreement[order].clamp(0, 1)[None], token[order][None]


def _cut_off(
    candidate: torch.Tensor,
    off_logits: torch.Tensor,
    off_iou: torch.Tensor,
    cells: torch.Tensor,
    off_cells: torch.Tensor,
) -> torch.Tensor:
    """Remove from each candidate the best masks under background clicks that spare the foreground clicks."""
    spares = (off_logits[..., cells] <= 0).all(dim=-1)
    chosen = torch.where(spares, off_iou, -1.0).argmax(dim=1)
    rows = torch.arange(len(off_logits), device=off_logits.device)
    cut = torch.where(spares.any(dim=1)[:, None], off_logits[rows, chosen], _OUTSIDE).amax(dim=0)
    cut[off_cells] = -_OUTSIDE
    return torch.minimum(candidate, -cut)


def _box_iou(canvas: Canvas, masks: torch.Tensor, box_xyxy: torch.Tensor) -> torch.Tensor:
    """(M,) IoU of the box around each (M, P) mask with the given box; 0 for an empty mask."""
    pixels = canvas.to_pixels(masks)
    scale_x, scale_y = canvas.scale_xy
    found = []
    for line, scale in ((pixels.any(dim=1), scale_x), (pixels.any(dim=2), scale_y)):
        first = line.float().argmax(dim=1)
        last = line.shape[1] - line.flip(1).float().argmax(dim=1)
        found.append((first / scale, last / scale))
    (left, right), (top, bottom) = found
    x0, y0, x1, y1 = box_xyxy.unbind()
    overlap_x = (torch.minimum(right, x1) - torch.maximum(left, x0)).clamp_min(0)
    overlap_y = (torch.minimum(bottom, y1) - torch.maximum(top, y0)).clamp_min(0)
    inter = overlap_x * overlap_y
    union = (right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - inter
    return torch.where(pixels.flatten(1).any(dim=1), inter / union.clamp_min(1e-6), 0.0)
