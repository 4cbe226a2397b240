"""AP^e: class-agnostic average precision of disjoint entities (Qi et al., "Open world entity segmentation", 2022)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from everymask.errors import InputError
from everymask.evaluation.disjoint import overlapping_pixels
from everymask.evaluation.ground_truth import EntityTruth
from everymask.masks.rle import rle_areas
from everymask.records import ImageLabels

_CATEGORY = 1


@dataclass(frozen=True)
class EntityAp:
    """Entity segmentation quality over a set of images.

    Attributes:
        ap: AP^e, the mean over IoU thresholds 0.50, 0.55, …, 0.95, in [0, 1].
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        images: evaluated.
        entities: of the ground truth, groups left out.
        predictions: masks evaluated.
    """

    ap: float
    ap50: float
    ap75: float
    images: int
    entities: int
    predictions: int


def entity_ap(predictions: Mapping[str, ImageLabels], truth: Mapping[str, EntityTruth]) -> EntityAp:
    """AP^e through pycocotools, with no limit on the masks of an image.

    Every image of `truth` counts; one without a prediction has found nothing.

    Raises:
        InputError: a predicted image is not in the ground truth, is of another size, or its masks overlap: AP^e is
            defined on disjoint masks (`everymask.evaluation.disjoint` makes them so).
    """
    for name, labels in predictions.items():
        _check(name, labels, truth)
    ids = {name: position + 1 for position, name in enumerate(truth)}
    annotations = [annotation for name, image in truth.items() for annotation in _truth_annotations(ids[name], image)]
    detections = [
        {"image_id": ids[name], "category_id": _CATEGORY, "segmentation": mask.rle, "score": mask.score}
        for name, labels in predictions.items()
        for mask in labels.masks
    ]
    images = [{"id": ids[name], "height": item.size_hw[0], "width": item.size_hw[1]} for name, item in truth.items()]
    most = max((len(labels.masks) for labels in predictions.values()), default=0)
    ap, ap50, ap75 = _average_precision(images, annotations, detections, most) if detections else (0.0, 0.0, 0.0)
    entities = sum(not crowd for image in truth.values() for crowd in image.iscrowd)
    return EntityAp(ap, ap50, ap75, len(truth), entities, len(detections))


def _check(name: str, labels: ImageLabels, truth: Mapping[str, EntityTruth]) -> None:
    if name not in truth:
        raise InputError(f"image {name} is not in the ground truth; evaluate labels of the annotated images")
    if tuple(labels.size_hw) != tuple(truth[name].size_hw):
        raise InputError(
            f"labels of {name} are for {labels.size_hw[0]}x{labels.size_hw[1]} pixels, its ground truth for "
            f"{truth[name].size_hw[0]}x{truth[name].size_hw[1]}; label the image the annotations were made for"
        )
    overlap = overlapping_pixels(labels.masks)
    if overlap:
        raise InputError(
            f"masks of {name} overlap in {overlap} pixels, but AP^e is defined on disjoint masks; "
            "resolve overlaps first"
        )


def _truth_annotations(image_id: int, image: EntityTruth) -> list[dict[str, Any]]:
    areas = rle_areas(image.entities).tolist()
    return [
        {
            "image_id": image_id,
            "category_id": _CATEGORY,
            "segmentation": rle,
            "area": area,
            "iscrowd": int(crowd),
            "bbox": [0, 0, 1, 1],
        }
        for rle, area, crowd in zip(image.entities, areas, image.iscrowd, strict=True)
    ]


def _average_precision(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], detections: list[dict[str, Any]], most: int
) -> tuple[float, float, float]:
    """AP, AP50, AP75 with at most `most` detections an image."""
    truth, results = COCO(), COCO()
    categories = [{"id": _CATEGORY, "name": "entity"}]
    for position, annotation in enumerate(annotations):
        annotation["id"] = position + 1
    areas = rle_areas([detection["segmentation"] for detection in detections]).tolist()
    for position, (detection, area) in enumerate(zip(detections, areas, strict=True)):
        detection |= {"id": position + 1, "area": area, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    results.dataset = {"images": images, "annotations": detections, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results.createIndex()
        evaluation = COCOeval(truth, results, "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [most]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (T, R, 1, 1, 1); -1 where there is no ground truth
    thresholds = evaluation.params.iouThrs

    def mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        valid = values[values > -1]
        return float(valid.mean()) if valid.size else 0.0

    return mean(precision), mean(precision[np.isclose(thresholds, 0.5)]), mean(precision[np.isclose(thresholds, 0.75)])
