"""COCO: every segment of panoptic annotations, and instances of named classes."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth.coco_file import (
    annotated_rle,
    annotations_of,
    coco_content,
    named_in_errors,
)
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
from everymask.files.storage import one_line
from everymask.masks.checked import checked_size
from everymask.masks.rle import decode_mask, encode_label_map, rle_areas

logger = logging.getLogger(__name__)


def read_coco_panoptic(folder: Path) -> dict[str, EntityTruth]:
    """Entities by image file name: every thing and stuff segment of `panoptic.json` and `panoptic/*.png`.

    Ids in the PNG files are R + 256 G + 65536 B. Raises ConfigurationError if the folder does not hold these files.
    """
    content = coco_content(folder, "panoptic")
    truth = {}
    with named_in_errors(folder / "panoptic.json"):
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        for annotation in annotations_of(folder / "panoptic.json", content, names):
            segments = annotation["segments_info"]
            label_map = _panoptic_labels(folder / "panoptic" / annotation["file_name"], segments)
            truth[names[annotation["image_id"]]] = EntityTruth(
                size_hw=(label_map.shape[0], label_map.shape[1]),
                entities=tuple(encode_label_map(label_map, len(segments))),
                iscrowd=tuple(bool(segment.get("iscrowd")) for segment in segments),
            )
    return truth


def coco_panoptic_pictures(folder: Path) -> list[PictureReference]:
    """Pictures of a folder as in `read_coco_panoptic` with `images/`, by name; groups (`iscrowd`) are unlabelled.

    Raises ConfigurationError if the folder does not hold these files.
    """
    content = coco_content(folder, "panoptic")
    prefix = f"coco_panoptic/{folder.name}"
    references = []
    with named_in_errors(folder / "panoptic.json"):
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        annotations = annotations_of(folder / "panoptic.json", content, files)
        for annotation in sorted(annotations, key=lambda annotation: str(annotation["file_name"])):
            path = folder / "images" / Path(files[annotation["image_id"]]).with_suffix(".jpg").name
            name = f"{prefix}/{path.stem}"
            labels = folder / "panoptic" / annotation["file_name"]
            references.append(
                PictureReference(name, partial(_read_panoptic, path, labels, annotation["segments_info"], name))
            )
    return references


def _read_panoptic(path: Path, labels: Path, segments: list[Any], name: str) -> AnnotatedPicture:
    label_map = _panoptic_labels(labels, segments)
    crowds = [position for position, segment in enumerate(segments) if segment.get("iscrowd")]
    label_map[np.isin(label_map, crowds)] = UNLABELLED
    return AnnotatedPicture(name, read_picture(path), (label_map.astype(np.int32),), complete=True)


def _panoptic_labels(path: Path, segments: list[Any]) -> NDArray[np.int64]:
    """(H, W) position of each pixel in `segments`, `UNLABELLED` where there is none."""
    if not path.is_file():
        raise ConfigurationError(f"{path} is named by panoptic.json but is not there; restore it")
    try:
        with Image.open(path) as picture:
            rgb = np.asarray(picture.convert("RGB")).astype(np.int64)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"{path} is no readable picture ({one_line(error)}); restore it") from error
    ids: NDArray[np.int64] = rgb @ np.array([1, 256, 65536])
    known = np.array([segment["id"] for segment in segments], dtype=np.int64)
    label_map = np.full(ids.shape, UNLABELLED, dtype=np.int64)
    order = np.argsort(known)
    position = np.searchsorted(known[order], ids).clip(max=max(len(known) - 1, 0))
    if len(known):
        found = known[order][position] == ids
        label_map[found] = order[position][found]
    return label_map


def read_coco_instances(folder: Path, taxonomy: Taxonomy) -> dict[str, ClassTruth]:
    """Ground truth by image file name for all of `instances.json`, restricted to a taxonomy's subjects.

    Where objects overlap, the smaller one is on top in the semantic map; a crowd counts as its class there. Boxes
    without an outline, and annotations of unknown images, are left out with a warning.

    Raises:
        ConfigurationError: there is no such file, it lacks a subject, or it holds something that is not a mask.
    """
    path = folder / "instances.json"
    content = coco_content(folder, "instances")
    outlines = 0
    with named_in_errors(path):
        known = {str(item["name"]): item["id"] for item in content["categories"]}
        class_ids = subject_ids(known, taxonomy, path)
        sizes = {image["id"]: checked_size(image["height"], image["width"]) for image in content["images"]}
        instances: dict[int, list[InstanceTruth]] = {number: [] for number in sizes}
        for annotation in annotations_of(path, content, sizes):
            class_id = class_ids.get(annotation["category_id"])
            if class_id is None:
                continue
            if not annotation.get("segmentation"):
                outlines += 1
                continue
            rle = annotated_rle(annotation, sizes[annotation["image_id"]])
            area = annotation.get("area")
            area = float(rle_areas([rle])[0]) if area is None else float(area)
            instances[annotation["image_id"]].append(
                InstanceTruth(class_id, rle, area, bool(annotation.get("iscrowd", 0)))
            )
        if outlines:
            logger.warning("%s: %d annotations without an outline are left out", path, outlines)
        return {
            str(image["file_name"]): ClassTruth(
                sizes[image["id"]], tuple(instances[image["id"]]), _paint(instances[image["id"]], sizes[image["id"]])
            )
            for image in content["images"]
        }


def coco_instance_pictures(folder: Path) -> list[PictureReference]:
    """Pictures of `instances.json` and `images/`, by name: objects of all classes except groups, in one map.

    Where objects overlap, the smaller one is in front. Raises ConfigurationError if the folder does not hold these
    files.
    """
    content = coco_content(folder, "instances")
    prefix = f"coco_instances/{folder.name}"
    references = []
    with named_in_errors(folder / "instances.json"):
        by_image: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
        for annotation in annotations_of(folder / "instances.json", content, by_image):
            if not annotation.get("iscrowd") and annotation.get("segmentation"):
                by_image[annotation["image_id"]].append(annotation)
        for entry in sorted(content["images"], key=lambda entry: str(entry["file_name"])):
            path = folder / "images" / Path(entry["file_name"]).name
            name = f"{prefix}/{path.stem}"
            references.append(PictureReference(name, partial(_read_instances, path, by_image[entry["id"]], name)))
    return references


def _read_instances(path: Path, annotations: list[Any], name: str) -> AnnotatedPicture:
    image = read_picture(path)
    size_hw = (image.shape[0], image.shape[1])
    labels = np.full(size_hw, UNLABELLED, dtype=np.int32)
    with named_in_errors(path):
        masks = [decode_mask(annotated_rle(annotation, size_hw)) for annotation in annotations]
    for index, mask in enumerate(sorted(masks, key=lambda mask: -int(mask.sum()))):
        labels[mask] = index
    return AnnotatedPicture(name, image, (labels,), complete=False)


def _paint(instances: list[InstanceTruth], size_hw: tuple[int, int]) -> NDArray[np.int32]:
    semantic = np.zeros(size_hw, dtype=np.int32)
    areas = rle_areas([item.rle for item in instances])
    for position in np.argsort(-areas, kind="stable"):
        semantic[decode_mask(instances[position].rle)] = instances[position].class_id + 1
    return semantic
