"""Readers of ground truth of named classes: COCO instances and PASCAL VOC."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from everymask.classes.class_set import ClassSet
from everymask.errors import ConfigurationError
from everymask.masks.rle import decode_mask, encode_mask, rle_areas
from everymask.records import Rle

VOID = -1
"""Pixels that count neither way."""

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_VOC_VOID = 255


@dataclass(frozen=True)
class InstanceTruth:
    """One object.

    Attributes:
        class_id: index into the measured classes.
        rle: its mask.
        area: in pixels, as annotated.
        iscrowd: a group that predictions are neither right nor wrong on.
    """

    class_id: int
    rle: Rle
    area: float
    iscrowd: bool = False


@dataclass(frozen=True)
class ClassTruth:
    """One image.

    Attributes:
        size_hw: (height, width) in pixels.
        instances: objects of the measured classes.
        semantic: (H, W) int32: 0 background, class_id + 1, or `VOID`.
    """

    size_hw: tuple[int, int]
    instances: tuple[InstanceTruth, ...]
    semantic: NDArray[np.int32]


def read_coco_instances(folder: Path, class_set: ClassSet) -> dict[str, ClassTruth]:
    """Ground truth by image file name, of every image of `instances.json`, restricted to the subjects of a class set.

    Where objects overlap, the smaller one is on top in the semantic map; a crowd counts as its class there.

    Raises:
        ConfigurationError: there is no such file, or it does not know a subject.
    """
    path = folder / "instances.json"
    if not path.is_file():
        raise ConfigurationError(f"{folder} holds no instances.json; give the folder of COCO instance annotations")
    content = json.loads(path.read_text())
    class_ids = _class_ids({item["name"]: item["id"] for item in content["categories"]}, class_set, path)
    instances: dict[int, list[InstanceTruth]] = {image["id"]: [] for image in content["images"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        class_id = class_ids.get(annotation["category_id"])
        if class_id is not None:
            rle = _coco_rle(annotation["segmentation"], sizes[annotation["image_id"]])
            crowd = bool(annotation.get("iscrowd", 0))
            instances[annotation["image_id"]].append(InstanceTruth(class_id, rle, annotation["area"], crowd))
    return {
        image["file_name"]: ClassTruth(
            sizes[image["id"]], tuple(instances[image["id"]]), _paint(instances[image["id"]], sizes[image["id"]])
        )
        for image in content["images"]
    }


def read_voc(folder: Path, class_set: ClassSet, split: str | None = None) -> dict[str, ClassTruth]:
    """Ground truth by image file name from PASCAL VOC's layout.

    Args:
        folder: holds JPEGImages, SegmentationClass and SegmentationObject.
        class_set: its subjects are VOC's class names.
        split: name of a list in ImageSets/Segmentation, e.g. `val`; None for every segmented image.

    Raises:
        ConfigurationError: the layout is another, or VOC does not know a subject.
    """
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not (folder / name).is_dir():
            raise ConfigurationError(f"{folder} holds no {name}/; give the folder of a PASCAL VOC year")
    class_ids = _class_ids({name: value for value, name in enumerate(VOC_CLASSES, start=1)}, class_set, folder)
    if split is None:
        names = sorted(path.stem for path in (folder / "SegmentationClass").glob("*.png"))
    else:
        listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not listed.is_file():
            raise ConfigurationError(f"there is no list {listed} of the images of split {split}")
        names = listed.read_text().split()
    if not names:
        raise ConfigurationError(f"{folder} holds no segmented image")
    return {f"{name}.jpg": _voc_image(folder, name, class_ids) for name in names}


def _voc_image(folder: Path, name: str, class_ids: dict[int, int]) -> ClassTruth:
    classes = np.asarray(Image.open(folder / "SegmentationClass" / f"{name}.png")).astype(np.int32)
    objects = np.asarray(Image.open(folder / "SegmentationObject" / f"{name}.png")).astype(np.int32)
    semantic = np.zeros(classes.shape, dtype=np.int32)
    semantic[classes == _VOC_VOID] = VOID
    for value, class_id in class_ids.items():
        semantic[classes == value] = class_id + 1
    instances = []
    for value in np.unique(objects):
        if value in (0, _VOC_VOID):
            continue
        mask = objects == value
        inside = classes[mask & (classes != _VOC_VOID)]
        voc_class = int(np.bincount(inside).argmax()) if inside.size else 0
        if voc_class in class_ids:
            instances.append(InstanceTruth(class_ids[voc_class], encode_mask(mask), float(mask.sum())))
    return ClassTruth((classes.shape[0], classes.shape[1]), tuple(instances), semantic)


def _class_ids(known: dict[str, int], class_set: ClassSet, source: Path) -> dict[int, int]:
    """class_id by the ground truth's own id of each subject."""
    unknown = [subject for subject, _ in class_set.subjects if subject not in known]
    if unknown:
        raise ConfigurationError(
            f"{source} does not know {', '.join(unknown)}; its classes are {', '.join(sorted(known))}. Classes of your "
            "own are measured with --classes yours=theirs+theirs"
        )
    return {known[subject]: class_set.classes.index(name) for subject, name in class_set.subjects}


def _coco_rle(segmentation: Any, size_hw: tuple[int, int]) -> Rle:
    """Polygons, uncompressed or compressed run lengths as one compressed encoding."""
    height, width = size_hw
    if isinstance(segmentation, list):
        merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        merged = coco_mask.frPyObjects(segmentation, height, width)
    else:
        merged = segmentation
    counts = merged["counts"]
    return Rle(size=[height, width], counts=counts.decode("ascii") if isinstance(counts, bytes) else counts)


def _paint(instances: list[InstanceTruth], size_hw: tuple[int, int]) -> NDArray[np.int32]:
    semantic = np.zeros(size_hw, dtype=np.int32)
    areas = rle_areas([item.rle for item in instances])
    for position in np.argsort(-areas, kind="stable"):
        semantic[decode_mask(instances[position].rle)] = instances[position].class_id + 1
    return semantic
