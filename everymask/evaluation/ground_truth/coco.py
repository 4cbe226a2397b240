"""COCO: every segment of panoptic annotations, and instances of named classes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from everymask.classes.class_set import ClassSet
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth.records import (
    UNLABELLED,
    AnnotatedPicture,
    ClassTruth,
    EntityTruth,
    InstanceTruth,
    PictureReference,
    read_picture,
)
from everymask.evaluation.ground_truth.subjects import subject_ids
from everymask.masks.rle import decode_mask, encode_label_map, rle_areas
from everymask.records import Rle


def read_coco_panoptic(folder: Path) -> dict[str, EntityTruth]:
    """Entities by image file name: every thing and every stuff segment of `panoptic.json` and `panoptic/*.png`.

    Args:
        folder: holds `panoptic.json` and `panoptic/`; ids in the PNG files are R + 256 G + 65536 B.

    Raises:
        ConfigurationError: the folder does not hold that.
    """
    content = _annotations(folder, "panoptic")
    names = {image["id"]: image["file_name"] for image in content["images"]}
    truth = {}
    for annotation in content["annotations"]:
        segments = annotation["segments_info"]
        label_map = _panoptic_labels(folder / "panoptic" / annotation["file_name"], segments)
        truth[names[annotation["image_id"]]] = EntityTruth(
            size_hw=(label_map.shape[0], label_map.shape[1]),
            entities=tuple(encode_label_map(label_map, len(segments))),
            iscrowd=tuple(bool(segment["iscrowd"]) for segment in segments),
        )
    return truth


def coco_panoptic_pictures(folder: Path) -> list[PictureReference]:
    """Pictures of a folder as in `read_coco_panoptic` with `images/`, by name; groups (`iscrowd`) are unlabelled.

    Raises:
        ConfigurationError: the folder does not hold that.
    """
    content = _annotations(folder, "panoptic")
    files = {image["id"]: image["file_name"] for image in content["images"]}
    prefix = f"coco_panoptic/{folder.name}"
    references = []
    for annotation in sorted(content["annotations"], key=lambda annotation: str(annotation["file_name"])):
        path = folder / "images" / Path(files[annotation["image_id"]]).with_suffix(".jpg").name
        name = f"{prefix}/{path.stem}"
        labels = folder / "panoptic" / annotation["file_name"]
        references.append(
            PictureReference(name, partial(_read_panoptic, path, labels, annotation["segments_info"], name))
        )
    return references


def _read_panoptic(path: Path, labels: Path, segments: list[Any], name: str) -> AnnotatedPicture:
    label_map = _panoptic_labels(labels, segments)
    crowds = [position for position, segment in enumerate(segments) if segment["iscrowd"]]
    label_map[np.isin(label_map, crowds)] = UNLABELLED
    return AnnotatedPicture(name, read_picture(path), (label_map.astype(np.int32),), complete=True)


def _panoptic_labels(path: Path, segments: list[Any]) -> NDArray[np.int64]:
    """(H, W) position in `segments` of every pixel, `UNLABELLED` where there is none."""
    if not path.is_file():
        raise ConfigurationError(f"{path} is named by panoptic.json but is not there; restore it")
    with Image.open(path) as picture:
        rgb = np.asarray(picture.convert("RGB")).astype(np.int64)
    ids: NDArray[np.int64] = rgb @ np.array([1, 256, 65536])
    known = np.array([segment["id"] for segment in segments], dtype=np.int64)
    label_map = np.full(ids.shape, UNLABELLED, dtype=np.int64)
    order = np.argsort(known)
    position = np.searchsorted(known[order], ids).clip(max=max(len(known) - 1, 0))
    if len(known):
        found = known[order][position] == ids
        label_map[found] = order[position][found]
    return label_map


def read_coco_instances(folder: Path, class_set: ClassSet) -> dict[str, ClassTruth]:
    """Ground truth by image file name, of every image of `instances.json`, restricted to the subjects of a class set.

    Where objects overlap, the smaller one is on top in the semantic map; a crowd counts as its class there.

    Raises:
        ConfigurationError: there is no such file, or it does not know a subject.
    """
    content = _annotations(folder, "instances")
    known = {item["name"]: item["id"] for item in content["categories"]}
    class_ids = subject_ids(known, class_set, folder / "instances.json")
    instances: dict[int, list[InstanceTruth]] = {image["id"]: [] for image in content["images"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        class_id = class_ids.get(annotation["category_id"])
        if class_id is not None:
            rle = coco_rle(annotation["segmentation"], sizes[annotation["image_id"]])
            crowd = bool(annotation.get("iscrowd", 0))
            instances[annotation["image_id"]].append(InstanceTruth(class_id, rle, annotation["area"], crowd))
    return {
        image["file_name"]: ClassTruth(
            sizes[image["id"]], tuple(instances[image["id"]]), _paint(instances[image["id"]], sizes[image["id"]])
        )
        for image in content["images"]
    }


def coco_instance_pictures(folder: Path) -> list[PictureReference]:
    """Pictures of a folder of `instances.json` and `images/`, by name: objects of all classes but groups, in one map.

    Where objects overlap, the smaller one is in front.

    Raises:
        ConfigurationError: the folder does not hold that.
    """
    content = _annotations(folder, "instances")
    by_image: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            by_image.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    prefix = f"coco_instances/{folder.name}"
    references = []
    for entry in sorted(content["images"], key=lambda entry: str(entry["file_name"])):
        path = folder / "images" / Path(entry["file_name"]).name
        name = f"{prefix}/{path.stem}"
        references.append(PictureReference(name, partial(_read_instances, path, by_image.get(entry["id"], []), name)))
    return references


def _read_instances(path: Path, segmentations: list[Any], name: str) -> AnnotatedPicture:
    image = read_picture(path)
    size_hw = (image.shape[0], image.shape[1])
    labels = np.full(size_hw, UNLABELLED, dtype=np.int32)
    masks = [decode_mask(coco_rle(segmentation, size_hw)) for segmentation in segmentations]
    for index, mask in enumerate(sorted(masks, key=lambda mask: -int(mask.sum()))):
        labels[mask] = index
    return AnnotatedPicture(name, image, (labels,), complete=False)


def _annotations(folder: Path, kind: str) -> Any:
    """The content of `KIND.json`."""
    path = folder / f"{kind}.json"
    if not path.is_file():
        raise ConfigurationError(f"{folder} holds no {kind}.json; give the folder of COCO {kind} annotations")
    return json.loads(path.read_text())


def coco_rle(segmentation: Any, size_hw: tuple[int, int]) -> Rle:
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
