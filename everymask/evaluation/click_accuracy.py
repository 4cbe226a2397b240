"""How well one click segments: the masks that answer a click, compared with the clicked segment.

Every segment gets one click, at its most interior pixel (`masks.interior`). IoU is measured at original resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from everymask.backbone.protocol import MASKS_PER_PROMPT, PromptableBackbone
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import UNLABELLED, PictureReference
from everymask.masks.interior import interior_points

_CLICKS_PER_CHUNK = 16
_FELZENSZWALB_SCALES = (100, 300, 800)

SIZES_PX = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
"""COCO's ranges of a segment's area."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
ClickAnswers = Callable[[NDArray[np.uint8], torch.Tensor], Iterable[tuple[BoolArray, NDArray[np.float32]]]]
"""(H, W, 3) image, (N, 2) clicks (x, y) → per click, in order: (K, H, W) masks and their (K,) scores."""


@dataclass(frozen=True)
class ClickPicture:
    """A picture and every segment of its ground truth, of all annotators: (S, H, W) bool, none empty."""

    image: NDArray[np.uint8]
    segments: BoolArray


@dataclass(frozen=True)
class ClickFigures:
    """Means over all segments of all pictures.

    Attributes:
        clicks: segments, each clicked once.
        best: IoU of the best mask that answers a click.
        top: IoU of the mask with the highest score.
        correlation: Pearson's, between score and IoU over all masks; NaN if either is constant.
        best_root: `best`, each segment weighted by the root of its share of the picture.
        top_root: `top`, weighted likewise.
    """

    clicks: int
    best: float
    top: float
    correlation: float
    best_root: float
    top_root: float


@dataclass(frozen=True)
class ClickScores:
    """Every answer to every click: S clicks, K masks each.

    Attributes:
        iou, score: (S, K) real IoU and the answerer's own score.
        precision: (S, K) share of each mask inside the segment, 0 for an empty mask.
        recall: (S, K) share of the segment inside each mask.
        area: (S,) of the segments in pixels.
        share: (S,) of the picture.
    """

    iou: FloatArray
    score: FloatArray
    precision: FloatArray
    recall: FloatArray
    area: FloatArray
    share: FloatArray


def click_scores(answers: ClickAnswers, pictures: Iterable[ClickPicture]) -> ClickScores:
    """Click every segment of every picture once; ConfigurationError if there is none."""
    rows, shares = [], []
    for picture in pictures:
        points = torch.from_numpy(interior_points(picture.segments))
        for segment, (masks, mask_scores) in zip(picture.segments, answers(picture.image, points), strict=True):
            inside = (masks & segment).sum(axis=(1, 2))
            sizes, area = masks.sum(axis=(1, 2)), segment.sum()
            ious = inside / (sizes + area - inside)
            rows.append((ious, mask_scores, inside / np.maximum(sizes, 1), inside / area, np.full(len(ious), area)))
            shares.append(segment.mean())
    if not rows:
        raise ConfigurationError("the ground truth holds no segment to click on; give another folder")
    iou, score, precision, recall, area = (np.stack(column) for column in zip(*rows, strict=True))
    return ClickScores(iou, score, precision, recall, area[:, 0], np.array(shares))


def click_figures(scores: ClickScores) -> ClickFigures:
    iou, score, weight = scores.iou, scores.score, np.sqrt(scores.share)
    best, top = iou.max(axis=1), iou[np.arange(len(iou)), score.argmax(axis=1)]
    varies = iou.std() > 0 and score.std() > 0
    return ClickFigures(
        clicks=len(iou),
        best=float(best.mean()),
        top=float(top.mean()),
        correlation=float(np.corrcoef(iou.ravel(), score.ravel())[0, 1]) if varies else float("nan"),
        best_root=float(np.average(best, weights=weight)),
        top_root=float(np.average(top, weights=weight)),
    )


def reliability(scores: ClickScores) -> dict[str, dict[str, float]]:
    """Mean score and mean IoU of all non-empty masks, by tenths of the score."""
    tenth = (scores.score * 10).astype(int).clip(0, 9)
    return {
        f"{bin_ / 10:.1f} to {(bin_ + 1) / 10:.1f}": {
            "masks": int((tenth == bin_).sum()),
            "predicted": float(scores.score[tenth == bin_].mean()),
            "real": float(scores.iou[tenth == bin_].mean()),
        }
        for bin_ in np.unique(tenth).tolist()
    }


def click_errors(scores: ClickScores) -> dict[str, dict[str, float]]:
    """Errors of the best answers by COCO's segment sizes, as shares of segments that sum to 1.

    Precision and recall of at least 0.75 make a mask `right`; recall alone, `merged` with something else; precision
    alone, a `piece`; neither, `missed` (our choice).
    """
    rows = np.arange(len(scores.iou)), scores.iou.argmax(axis=1)
    pure, whole = scores.precision[rows] >= 0.75, scores.recall[rows] >= 0.75
    found = {}
    for name, (least, most) in {"all": (0, np.inf), **SIZES_PX}.items():
        size = (scores.area >= least) & (scores.area < most)
        if size.any():
            kinds = {"right": pure & whole, "merged": ~pure & whole, "piece": pure & ~whole, "missed": ~pure & ~whole}
            shares = {kind: float(chosen[size].mean()) for kind, chosen in kinds.items()}
            found[name] = {"clicks": int(size.sum()), "best": float(scores.iou[rows][size].mean()), **shares}
    return found


def backbone_answers(backbone: PromptableBackbone) -> ClickAnswers:
    """One-click answers of a promptable backbone: its three masks and predicted IoU."""

    @torch.inference_mode()
    def answer(image: NDArray[np.uint8], points: torch.Tensor) -> Iterable[tuple[BoolArray, NDArray[np.float32]]]:
        embedding = backbone.embed([image])[0]
        for chunk in torch.split(points, _CLICKS_PER_CHUNK):
            prompts = backbone.decode_points(embedding, chunk.to(backbone.device))
            logits = backbone.full_resolution_logits(embedding, prompts.logits.flatten(0, 1))
            masks = (logits > 0).view(-1, MASKS_PER_PROMPT, *logits.shape[1:]).cpu().numpy()
            yield from zip(masks, prompts.predicted_iou.float().cpu().numpy(), strict=True)

    return answer


def felzenszwalb_answers() -> ClickAnswers:
    """A baseline without learning: the region under the click at three scales, the middle one scored highest."""

    def answer(image: NDArray[np.uint8], points: torch.Tensor) -> Iterable[tuple[BoolArray, NDArray[np.float32]]]:
        regions = np.stack([felzenszwalb(image, scale=s, sigma=0.8, min_size=s // 2) for s in _FELZENSZWALB_SCALES])
        score = np.array([0.4, 0.6, 0.5], dtype=np.float32)
        for x, y in points.long().tolist():
            yield regions == regions[:, y, x, None, None], score

    return answer


def click_pictures(references: Iterable[PictureReference], min_area: float = 0.0) -> Iterable[ClickPicture]:
    """Annotated pictures, one at a time, with each label map's segments that fill at least `min_area` of the
    picture."""
    for reference in references:
        picture = reference.read()
        segments = np.zeros((0, *picture.image.shape[:2]), dtype=bool)
        for label_map in picture.label_maps:
            labels, areas = np.unique(label_map, return_counts=True)
            kept = labels[(labels != UNLABELLED) & (areas >= min_area * label_map.size)]
            segments = np.concatenate([segments, label_map == kept[:, None, None]])
        yield ClickPicture(picture.image, segments)
