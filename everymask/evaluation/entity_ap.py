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
from everymask.evaluation.matches import IOU_THRESHOLDS, MaskMatches
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
        images: number evaluated.
        entities: in the ground truth, without groups.
        predictions: masks evaluated.
    """

    ap: float
    ap50: float
    ap75: float
    images: int
    entities: int
    predictions: int


class EntityMatches(MaskMatches):
    def figures(self) -> EntityAp:
        """AP^e with all masks counted."""
        precisions = self.average_precisions()
        at_50, at_75 = (float(precisions[np.isclose(IOU_THRESHOLDS, at)][0]) for at in (0.5, 0.75))
        counts = len(self.objects), int(self.objects.sum()), len(self.image)
        return EntityAp(float(precisions.mean()), at_50, at_75, *counts)


def match_entities(
    predictions: Mapping[str, ImageLabels], truth: Mapping[str, EntityTruth], allow_overlap: bool = False
) -> EntityMatches:
    """Match masks with entities through pycocotools, without a limit on masks per image.

    Every image of `truth` counts; one without a prediction has found nothing.

    Args:
        allow_overlap: accept overlapping masks. AP^e is defined on disjoint masks, so the result is not strictly AP^e
            then.

    Raises:
        InputError: a predicted image is not in the ground truth, is of another size, or its masks overlap
            (`everymask.evaluation.disjoint` makes them disjoint).
    """
    for name, labels in predictions.items():
        _check(name, labels, truth, allow_overlap)
    ids = {name: position + 1 for position, name in enumerate(truth)}
    annotations = [annotation for name, image in truth.items() for annotation in _truth_annotations(ids[name], image)]
    detections = [
        {"image_id": ids[name], "category_id": _CATEGORY, "segmentation": mask.rle, "score": mask.score}
        for name, labels in predictions.items()
        for mask in labels.masks
    ]
    images = [{"id": ids[name], "height": item.size_hw[0], "width": item.size_hw[1]} for name, item in truth.items()]
    entities = np.array([sum(not crowd for crowd in image.iscrowd) for image in truth.values()], dtype=np.int64)
    most = max((len(labels.masks) for labels in predictions.values()), default=0)
    evaluated = _evaluated(images, annotations, detections, most) if detections else []
    return EntityMatches.of(evaluated, entities)


def _check(name: str, labels: ImageLabels, truth: Mapping[str, EntityTruth], allow_overlap: bool) -> None:
    if name not in truth:
        raise InputError(f"image {name} is not in the ground truth; evaluate labels of the annotated images")
    if tuple(labels.size_hw) != tuple(truth[name].size_hw):
        raise InputError(
            f"labels of {name} are for {labels.size_hw[0]}x{labels.size_hw[1]} pixels, its ground truth for "
            f"{truth[name].size_hw[0]}x{truth[name].size_hw[1]}; label the image the annotations were made for"
        )
    overlap = 0 if allow_overlap else overlapping_pixels(labels.masks)
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


def _evaluated(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], detections: list[dict[str, Any]], most: int
) -> list[Any]:
    """pycocotools' matches in each image, with at most `most` detections an image."""
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
        evaluation.params.iouThrs = IOU_THRESHOLDS
        evaluation.evaluate()
    return list(evaluation.evalImgs)
