"""How well one click gets a segment: the masks that answer a click in it against the segment itself.

One click a segment of ground truth, at its most interior pixel: the one farthest from the segment's border, the
picture's edge being a border too; the first in raster order among equals. IoU is measured at original resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]
from skimage.segmentation import felzenszwalb

from everymask.backbone.protocol import MASKS_PER_PROMPT, PromptableBackbone
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import UNLABELLED, PictureReference

_CLICKS_PER_CHUNK = 16
_FELZENSZWALB_SCALES = (100, 300, 800)

BoolArray = NDArray[np.bool_]
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
        best: IoU of the best of the masks that answer a click.
        top: IoU of the mask with the highest score.
        correlation: of score and IoU over all masks (Pearson); NaN when either never varies.
        best_root: `best`, every segment weighted by the root of its share of the picture.
        top_root: `top`, weighted likewise.
    """

    clicks: int
    best: float
    top: float
    correlation: float
    best_root: float
    top_root: float


def interior_points(segments: BoolArray) -> NDArray[np.float32]:
    """(S, H, W) bool, none empty → (S, 2) the centre (x, y) of each segment's most interior pixel."""
    points = np.empty((len(segments), 2), dtype=np.float32)
    for index, segment in enumerate(segments):
        rows, columns = np.flatnonzero(segment.any(axis=1)), np.flatnonzero(segment.any(axis=0))
        window = segment[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        depth = ndimage.distance_transform_edt(np.pad(window, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        points[index] = columns[0] + column + 0.5, rows[0] + row + 0.5
    return points


def click_figures(answers: ClickAnswers, pictures: Iterable[ClickPicture]) -> ClickFigures:
    """Click every segment of every picture once.

    Raises:
        ConfigurationError: there is no segment to click.
    """
    ious, scores, weights = [], [], []
    for picture in pictures:
        points = torch.from_numpy(interior_points(picture.segments))
        for segment, (masks, mask_scores) in zip(picture.segments, answers(picture.image, points), strict=True):
            inter = (masks & segment).sum(axis=(1, 2))
            union = masks.sum(axis=(1, 2)) + segment.sum() - inter
            ious.append(inter / union)
            scores.append(mask_scores)
            weights.append(np.sqrt(segment.mean()))
    if not ious:
        raise ConfigurationError("the ground truth holds no segment to click on; give another folder")
    iou, score, weight = np.stack(ious), np.stack(scores), np.array(weights)
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
    """The baseline that learns nothing: the region under the click at three scales, the middle one scored highest."""

    def answer(image: NDArray[np.uint8], points: torch.Tensor) -> Iterable[tuple[BoolArray, NDArray[np.float32]]]:
        regions = np.stack([felzenszwalb(image, scale=s, sigma=0.8, min_size=s // 2) for s in _FELZENSZWALB_SCALES])
        score = np.array([0.4, 0.6, 0.5], dtype=np.float32)
        for x, y in points.long().tolist():
            yield regions == regions[:, y, x, None, None], score

    return answer


def click_pictures(references: Iterable[PictureReference], min_area: float = 0.0) -> Iterable[ClickPicture]:
    """Annotated pictures, one at a time, with every segment of every label map that fills `min_area` of its picture."""
    for reference in references:
        picture = reference.read()
        segments = np.zeros((0, *picture.image.shape[:2]), dtype=bool)
        for label_map in picture.label_maps:
            labels, areas = np.unique(label_map, return_counts=True)
            kept = labels[(labels != UNLABELLED) & (areas >= min_area * label_map.size)]
            segments = np.concatenate([segments, label_map == kept[:, None, None]])
        yield ClickPicture(picture.image, segments)
