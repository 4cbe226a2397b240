"""PASCAL VOC: objects of twenty named classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth.records import (
    UNLABELLED,
    VOID,
    AnnotatedPicture,
    ClassTruth,
    InstanceTruth,
    PictureReference,
    read_picture,
)
from everymask.evaluation.ground_truth.subjects import subject_ids
from everymask.files.storage import one_line
from everymask.masks.rle import encode_mask

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
_VOID_VALUE = 255
_VOID_REACH_PX = 8
"""VOC's void bands are some five pixels wide; larger void areas belong to nothing."""


def read_voc(folder: Path, taxonomy: Taxonomy, split: str | None = None) -> dict[str, ClassTruth]:
    """Ground truth by image file name from PASCAL VOC's layout.

    Args:
        folder: holds JPEGImages, SegmentationClass and SegmentationObject.
        taxonomy: its subjects are VOC's class names.
        split: a list in ImageSets/Segmentation, e.g. `val`; None for every segmented image.

    Raises:
        ConfigurationError: the layout is another, or VOC lacks a subject.
    """
    class_ids = subject_ids({name: value for value, name in enumerate(VOC_CLASSES, start=1)}, taxonomy, folder)
    return {f"{name}.jpg": _voc_image(folder, name, class_ids) for name in _names(folder, split)}


def voc_pictures(folder: Path, split: str | None = None) -> list[PictureReference]:
    """VOC's pictures in the order of a list, with their objects; the rest is unlabelled.

    Void pixels near an object join it or the background, whichever is nearer, so borders run through the middle of
    VOC's void bands. Masks of a list `train_aug` are coarse: their borders are not `sharp`.

    Arguments as in `read_voc`; raises ConfigurationError for another layout.
    """
    prefix = "voc_aug" if split == "train_aug" else f"voc/{split or 'all'}"
    return [
        PictureReference(f"{prefix}/{name}", partial(_read, folder, name, prefix)) for name in _names(folder, split)
    ]


def _read(folder: Path, name: str, prefix: str) -> AnnotatedPicture:
    objects = _png(folder / "SegmentationObject" / f"{name}.png")
    distance, (rows, columns) = ndimage.distance_transform_edt(objects == _VOID_VALUE, return_indices=True)
    objects = np.where(distance <= _VOID_REACH_PX, objects[rows, columns], 0)
    labels = np.where(objects == 0, UNLABELLED, objects).astype(np.int32)
    image = read_picture(folder / "JPEGImages" / f"{name}.jpg")
    return AnnotatedPicture(f"{prefix}/{name}", image, (labels,), complete=False, sharp=prefix != "voc_aug")


def _names(folder: Path, split: str | None) -> list[str]:
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not (folder / name).is_dir():
            raise ConfigurationError(f"{folder} holds no {name}/; give the folder of a PASCAL VOC year")
    if split is None:
        names = sorted(path.stem for path in (folder / "SegmentationClass").glob("*.png"))
    else:
        listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not listed.is_file():
            raise ConfigurationError(f"there is no list {listed} of the images of split {split}")
        names = listed.read_text().split()
    if not names:
        raise ConfigurationError(f"{folder} holds no segmented image")
    return names


def _png(path: Path) -> NDArray[np.int32]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture).astype(np.int32)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"{path} cannot be read ({one_line(error)}); restore it") from error


def _voc_image(folder: Path, name: str, class_ids: dict[int, int]) -> ClassTruth:
    classes = _png(folder / "SegmentationClass" / f"{name}.png")
    objects = _png(folder / "SegmentationObject" / f"{name}.png")
    semantic = np.zeros(classes.shape, dtype=np.int32)
    semantic[classes == _VOID_VALUE] = VOID
    for value, class_id in class_ids.items():
        semantic[classes == value] = class_id + 1
    instances = []
    for value in np.unique(objects):
        if value in (0, _VOID_VALUE):
            continue
        mask = objects == value
        inside = classes[mask & (classes != _VOID_VALUE)]
        voc_class = int(np.bincount(inside).argmax()) if inside.size else 0
        if voc_class in class_ids:
            instances.append(InstanceTruth(class_ids[voc_class], encode_mask(mask), float(mask.sum())))
    return ClassTruth((classes.shape[0], classes.shape[1]), tuple(instances), semantic)
