"""mIoU and mAP50 of masks of named classes (U-SAM, section 4)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from everymask.errors import InputError
from everymask.evaluation.ground_truth import VOID, ClassTruth
from everymask.evaluation.matches import MaskMatches, drawn_images
from everymask.masks.painting import semantic_map
from everymask.records import ImageLabels

MAX_DETS = 100
"""Most masks per class and image that AP considers, as in COCO's evaluator."""


@dataclass(frozen=True)
class ClassFigures:
    """One class's figures over all images; None if the ground truth lacks the class.

    Attributes:
        iou: intersection over union of its pixels, [0, 1].
        ap: average precision of its masks over IoU 0.5, 0.55, … 0.95, [0, 1]; None for background.
        ap50: the same at IoU 0.5.
        instances: in the ground truth, without crowds.
    """

    iou: float | None
    ap: float | None
    ap50: float | None
    instances: int


@dataclass(frozen=True)
class SemanticFigures:
    """Figures of a whole set.

    Attributes:
        miou: mean over background and the classes in the ground truth, as in PASCAL VOC, [0, 1].
        mean_ap: mean over the classes in the ground truth, [0, 1].
        map50: the same at IoU 0.5.
        classes: figures by name, `background` first.
        images: number of images.
    """

    miou: float
    mean_ap: float
    map50: float
    classes: dict[str, ClassFigures]
    images: int


@dataclass(frozen=True)
class ClassMatches:
    """Labels of C classes matched with the ground truth of I images.

    Attributes:
        classes: their names.
        confusion: (I, C + 1, C + 1) int32 pixels by true (row) and found (column) value, 0 background, without void.
        masks: of each class.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int32]
    masks: tuple[MaskMatches, ...]

    def figures(self) -> SemanticFigures:
        ious = _ious(self.confusion.sum(axis=0, dtype=np.int64))
        figures = {"background": ClassFigures(ious[0], None, None, 0)}
        for name, iou, masks in zip(self.classes, ious[1:], self.masks, strict=True):
            instances = int(masks.objects.sum())
            figures[name] = ClassFigures(iou, None, None, instances)
            if instances:
                ap = masks.average_precisions(max_dets=MAX_DETS)
                figures[name] = ClassFigures(iou, float(ap.mean()), float(ap[0]), instances)
        miou, mean_ap, map50 = self._means()
        return SemanticFigures(miou, mean_ap, map50, figures, len(self.confusion))

    def bootstrap(self, samples: int, seed: int = 0) -> NDArray[np.float64]:
        """(samples, 3) mIoU, mean AP and mAP50 of sets of I images, drawn by `drawn_images`."""
        drawn = drawn_images(len(self.confusion), samples, seed)
        return np.array([self._means(weights) for weights in drawn]).reshape(-1, 3)

    def _means(self, weights: NDArray[np.int64] | None = None) -> tuple[float, float, float]:
        """mIoU, mean AP and mAP50 with weighted images; NaN if no class is shown."""
        times = np.ones(len(self.confusion), dtype=np.int64) if weights is None else weights
        ious = [iou for iou in _ious(np.tensordot(times, self.confusion, axes=1)) if iou is not None]
        shown = [masks for masks in self.masks if (times * masks.objects).any()]
        precisions = [masks.average_precisions(times, MAX_DETS) for masks in shown]
        if not precisions:
            return float(np.mean(ious)), np.nan, np.nan
        return float(np.mean(ious)), float(np.mean(precisions)), float(np.mean([each[0] for each in precisions]))


def match_classes(
    labels: Mapping[str, ImageLabels], truth: Mapping[str, ClassTruth], classes: Sequence[str]
) -> ClassMatches:
    """Match labels of classes with ground truth. An image without labels counts as unlabelled.

    Args:
        labels: by image file name; masks of other classes (`class_name`) are left out.
        truth: by image file name, class_id an index into `classes`.
        classes: the names to measure.

    Raises:
        InputError: an image's size differs from its ground truth, or the ground truth shows no class of `classes`.
    """
    ids = {name: class_id for class_id, name in enumerate(classes)}
    confusion = np.zeros((len(truth), len(classes) + 1, len(classes) + 1), dtype=np.int32)
    detections = []
    for position, (name, image_truth) in enumerate(truth.items()):
        found = _restricted(labels.get(name), ids, image_truth, name)
        confusion[position] = _confusion(image_truth.semantic, semantic_map(found), len(classes))
        detections += [
            {
                "image_id": position + 1,
                "category_id": int(mask.class_id) + 1,
                "segmentation": dict(mask.rle),
                "score": mask.score,
            }
            for mask in found.masks
            if mask.class_id is not None
        ]
    objects = np.zeros((len(classes), len(truth)), dtype=np.int64)
    for position, image_truth in enumerate(truth.values()):
        for item in image_truth.instances:
            objects[item.class_id, position] += not item.iscrowd
    if not objects.any():
        raise InputError(f"the ground truth shows none of the classes {', '.join(classes)}; check their names")
    evaluated = _evaluated(list(truth.values()), detections, len(classes))
    masks = (MaskMatches.of(of_class, counts) for of_class, counts in zip(evaluated, objects, strict=True))
    return ClassMatches(tuple(classes), confusion, tuple(masks))


def semantic_figures(
    labels: Mapping[str, ImageLabels], truth: Mapping[str, ClassTruth], classes: Sequence[str]
) -> SemanticFigures:
    """The figures of `match_classes`; raises the same."""
    return match_classes(labels, truth, classes).figures()


def image_iou(labels: ImageLabels | None, truth: ClassTruth, classes: Sequence[str]) -> float:
    """Mean IoU over the classes in one image's truth or labels, [0, 1]; 1 if both show none."""
    found = _restricted(labels, {name: class_id for class_id, name in enumerate(classes)}, truth, "an image")
    confusion = _confusion(truth.semantic, semantic_map(found), len(classes))
    inter = np.diag(confusion)[1:]
    union = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:] - inter
    shown = union > 0
    return float((inter[shown] / union[shown]).mean()) if shown.any() else 1.0


def _restricted(labels: ImageLabels | None, ids: Mapping[str, int], truth: ClassTruth, name: str) -> ImageLabels:
    """The masks of measured classes, with class_id an index into these."""
    if labels is None:
        return ImageLabels(truth.size_hw, (), 0.0)
    if labels.size_hw != truth.size_hw:
        raise InputError(f"the labels of {name} are for {labels.size_hw}, its ground truth for {truth.size_hw}")
    masks = tuple(
        replace(mask, class_id=ids[mask.class_name])
        for mask in labels.masks
        if mask.class_name is not None and mask.class_name in ids
    )
    return ImageLabels(labels.size_hw, masks, labels.coverage)


def _confusion(truth: NDArray[np.int32], found: NDArray[np.int32], num_classes: int) -> NDArray[np.int64]:
    """(C + 1, C + 1) pixels by true (row) and found (column) value, without void."""
    counted = truth != VOID
    size = num_classes + 1
    pairs = truth[counted].astype(np.int64) * size + found[counted]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def _ious(confusion: NDArray[np.int64]) -> list[float | None]:
    """IoU of each value; None if the truth lacks it."""
    inter = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - inter
    return [
        float(i / u) if shown else None for i, u, shown in zip(inter, union, confusion.sum(axis=1) > 0, strict=True)
    ]


def _evaluated(truth: Sequence[ClassTruth], detections: list[dict[str, Any]], num_classes: int) -> list[list[Any]]:
    """For each class, the COCO evaluator's matches in each image; all None without a detection."""
    if not detections:
        return [[None] * len(truth)] * num_classes
    annotations = [
        {
            "id": 0,
            "image_id": image_id,
            "category_id": item.class_id + 1,
            "segmentation": dict(item.rle),
            "area": item.area,
            "iscrowd": int(item.iscrowd),
        }
        for image_id, image in enumerate(truth, start=1)
        for item in image.instances
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [
            {"id": image_id, "height": image.size_hw[0], "width": image.size_hw[1]}
            for image_id, image in enumerate(truth, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": class_id + 1, "name": str(class_id)} for class_id in range(num_classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(detections), "segm")
        evaluator.params.imgIds = list(range(1, len(truth) + 1))
        evaluator.params.areaRng = [[0, 1e10]]
        evaluator.params.areaRngLbl = ["all"]
        evaluator.params.maxDets = [MAX_DETS]
        evaluator.evaluate()
    per_image = list(evaluator.evalImgs)  # of the first class, then of the second, …
    return [per_image[class_id * len(truth) :][: len(truth)] for class_id in range(num_classes)]
