"""How well masks of named classes agree with ground truth: mIoU and mAP50 (U-SAM, section 4)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from everymask.errors import InputError
from everymask.evaluation.ground_truth import VOID, ClassTruth
from everymask.masks.painting import semantic_map
from everymask.records import ImageLabels


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class over all images; None where the ground truth does not show the class.

    Attributes:
        iou: intersection over union of its pixels, [0, 1].
        ap: average precision of its masks over IoU 0.5, 0.55, … 0.95, [0, 1]; None for background.
        ap50: average precision of its masks at IoU 0.5, [0, 1]; None for background.
        instances: how many the ground truth has, without crowds.
    """

    iou: float | None
    ap: float | None
    ap50: float | None
    instances: int


@dataclass(frozen=True)
class SemanticFigures:
    """Figures of a whole set.

    Attributes:
        miou: mean over background and the classes that the ground truth shows, as in PASCAL VOC, [0, 1].
        mean_ap: mean over the classes that the ground truth shows, [0, 1].
        map50: the same at IoU 0.5.
        classes: figures by name, `background` first.
        images: how many.
    """

    miou: float
    mean_ap: float
    map50: float
    classes: dict[str, ClassFigures]
    images: int


def semantic_figures(
    labels: Mapping[str, ImageLabels], truth: Mapping[str, ClassTruth], classes: Sequence[str]
) -> SemanticFigures:
    """Measure labels of classes against ground truth. Images without labels count as unlabelled.

    Args:
        labels: by image file name; `class_name` says the class, masks of other classes are left out.
        truth: by image file name, class_id an index into `classes`.
        classes: the names that are measured.

    Raises:
        InputError: an image has another size than its ground truth, or no class of `classes` is in the ground truth.
    """
    ids = {name: class_id for class_id, name in enumerate(classes)}
    confusion = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    detections = []
    for image_id, (name, image_truth) in enumerate(truth.items(), start=1):
        found = _restricted(labels.get(name), ids, image_truth, name)
        confusion += _confusion(image_truth.semantic, semantic_map(found), len(classes))
        detections += [
            {
                "image_id": image_id,
                "category_id": int(mask.class_id) + 1,
                "segmentation": dict(mask.rle),
                "score": mask.score,
            }
            for mask in found.masks
            if mask.class_id is not None
        ]
    ious = _ious(confusion)
    precisions = _average_precisions(list(truth.values()), detections, len(classes))
    figures = {"background": ClassFigures(ious[0], None, None, 0)}
    for class_id, name in enumerate(classes):
        instances = sum(item.class_id == class_id and not item.iscrowd for t in truth.values() for item in t.instances)
        figures[name] = ClassFigures(ious[class_id + 1], *precisions[class_id], instances)
    shown = [iou for iou in ious if iou is not None]
    found_precisions = [(ap, ap50) for ap, ap50 in precisions if ap is not None and ap50 is not None]
    if not found_precisions:
        raise InputError(f"the ground truth shows none of the classes {', '.join(classes)}; check their names")
    mean_ap, map50 = (float(mean) for mean in np.mean(found_precisions, axis=0))
    return SemanticFigures(float(np.mean(shown)), mean_ap, map50, figures, len(truth))


def image_iou(labels: ImageLabels | None, truth: ClassTruth, classes: Sequence[str]) -> float:
    """Mean IoU over the classes that one image's truth or labels show, [0, 1]; 1 where both show none."""
    found = _restricted(labels, {name: class_id for class_id, name in enumerate(classes)}, truth, "an image")
    confusion = _confusion(truth.semantic, semantic_map(found), len(classes))
    inter = np.diag(confusion)[1:]
    union = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:] - inter
    shown = union > 0
    return float((inter[shown] / union[shown]).mean()) if shown.any() else 1.0


def _restricted(labels: ImageLabels | None, ids: Mapping[str, int], truth: ClassTruth, name: str) -> ImageLabels:
    """The masks of measured classes, with class_id an index into them."""
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
    """(C + 1, C + 1) pixels by true (row) and found (column) value, void left out."""
    counted = truth != VOID
    size = num_classes + 1
    pairs = truth[counted].astype(np.int64) * size + found[counted]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def _ious(confusion: NDArray[np.int64]) -> list[float | None]:
    """IoU of each value; None where the truth does not have it."""
    inter = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - inter
    return [
        float(i / u) if shown else None for i, u, shown in zip(inter, union, confusion.sum(axis=1) > 0, strict=True)
    ]


def _average_precisions(
    truth: Sequence[ClassTruth], detections: list[dict[str, object]], num_classes: int
) -> list[tuple[float | None, float | None]]:
    """AP and AP50 of each class as COCO's evaluator gives them: 101-point interpolation, 100 masks an image."""
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
        # The evaluator cannot load an empty list of results.
        results = coco.loadRes(detections) if detections else COCO()
        evaluator = COCOeval(coco, results, "segm")
        evaluator.params.imgIds = list(range(1, len(truth) + 1))
        evaluator.params.areaRng = [[0, 1e10]]
        evaluator.params.areaRngLbl = ["all"]
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
        evaluator.accumulate()
    # (thresholds, recalls, classes, areas, maxDets); -1 where a class has no instance.
    precision = evaluator.eval["precision"][:, :, :, 0, 0]
    return [
        (float(values.mean()), float(values[0].mean())) if values[0, 0] > -1 else (None, None)
        for values in np.moveaxis(precision, 2, 0)
    ]
