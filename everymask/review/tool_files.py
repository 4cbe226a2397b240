"""Readers of what annotation tools give back, one function for each format that a person can correct labels in.

Each reads a file, or a folder of files, completely before it answers, so that nothing is ever half read.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from everymask.errors import ConfigurationError, InputError
from everymask.formats import label_studio
from everymask.formats.cvat import ID_ATTRIBUTE, crop_of_runs
from everymask.formats.labelme import REVIEWED_FLAG, read_mask_shape
from everymask.masks.rle import decode_mask, encode_mask
from everymask.masks.runs import rle_from_crop, rle_from_runs, rle_runs
from everymask.records import Rle
from everymask.review.reviewed import (
    EditingFormat,
    ReviewedImage,
    ReviewedMask,
    polygon_mask,
    read_file,
    read_json,
    the_field,
)

_DAMAGED = (ValueError, TypeError, KeyError, IndexError, OSError, OverflowError, AttributeError)
_MAX_PIXELS = 10**9


def read_reviewed(path: Path, kind: EditingFormat) -> list[ReviewedImage]:
    """Every image that a person has finished.

    Raises:
        InputError: a file is damaged, or not of that format.
    """
    if not path.exists():
        raise InputError(f"{path} is not there; give the file or folder that the tool has written")
    return READERS[kind](path)


def guess_format(path: Path) -> EditingFormat:
    """The format of a file or folder that a tool has written.

    Raises:
        InputError: it is not there, or cannot be read.
        ConfigurationError: it looks like none.
    """
    if not path.exists():
        raise InputError(f"{path} is not there; give the file or folder that the tool has written")
    if path.suffix == ".xml":
        return "cvat"
    content = read_json(_json_files(path)[0])
    if isinstance(content, list):
        return "label-studio"
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        return "coco"
    if isinstance(content, dict) and "shapes" in content:
        return "x-anylabeling" if "checked" in content else "labelme"
    raise ConfigurationError(
        f"{path} looks like no format that corrections are read from; give its --format: {', '.join(READERS)}"
    )


def read_label_studio(path: Path) -> list[ReviewedImage]:
    """Label Studio's JSON: of every task the newest annotation that was not cancelled, if there is one."""
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise InputError(
            f"{path} is not Label Studio's JSON export, which is a list of tasks; choose JSON, not JSON-MIN"
        )
    found = []
    for number, task in enumerate(tasks):
        where = f"task {number + 1} of {path.name}"
        annotations = the_field(task, "annotations", list, where) if "annotations" in task else []
        submitted = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
        if not submitted:
            continue
        latest = max(submitted, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
        data = the_field(task, "data", dict, where)
        image_id = data.get("image_id")
        result = the_field(latest, "result", list, where)
        masks, size = _label_studio_masks(result, where)
        who = latest.get("completed_by")
        found.append(
            ReviewedImage(
                name=str(image_id or data.get(label_studio.TO_NAME, "")),
                image_id=image_id,
                size_hw=size,
                masks=masks,
                annotator=str(who.get("email") if isinstance(who, dict) else who) if who is not None else None,
                corrected_at=latest.get("updated_at") or latest.get("created_at"),
                tolerance_px=float((task.get("meta") or {}).get("tolerance_px", 0.0)),
            )
        )
    return found


def _label_studio_masks(result: list[Any], where: str) -> tuple[tuple[ReviewedMask, ...], tuple[int, int]]:
    """Masks of a result, the pieces of a polygon put together, and the image's size, (0, 0) where nothing says it."""
    wanted = [region for region in result if isinstance(region, dict) and "value" in region]
    groups: dict[str, list[dict[str, Any]]] = {}
    for number, region in enumerate(wanted):
        name = str(region.get("id") or f"region {number}")
        groups.setdefault(name.partition("-")[0] if "points" in region["value"] else name, []).append(region)
    masks, size = [], (0, 0)
    for name, regions in groups.items():
        size = (
            the_field(regions[0], "original_height", int, where),
            the_field(regions[0], "original_width", int, where),
        )
        if not 0 < size[0] * size[1] <= _MAX_PIXELS:
            raise InputError(f"{where} has a region of {size[1]} x {size[0]} pixels")
        labels = [region["value"].get(region.get("type", "")) for region in regions]
        if not isinstance(labels[0], list) or not labels[0]:
            raise InputError(f"region {name} of {where} has no label; give it one in Label Studio")
        rles = [label_studio.read_region(region, size) for region in regions]
        polygons = tuple(
            tuple((np.asarray(region["value"]["points"]) * (size[1] / 100, size[0] / 100)).ravel().tolist())
            for region in regions
            if "points" in region["value"]
        )
        rle = rles[0] if len(rles) == 1 else encode_mask(np.logical_or.reduce([decode_mask(one) for one in rles]))
        masks.append(ReviewedMask(rle, str(labels[0][0]), name, polygons))
    return tuple(masks), size


def read_x_anylabeling(path: Path) -> list[ReviewedImage]:
    """X-AnyLabeling's JSON files: those that a person has checked."""
    found = []
    for file in _json_files(path):
        content = read_json(file)
        if not isinstance(content, dict) or content.get("checked") is not True:
            continue
        size = _size_of(content, file)
        groups: dict[Any, list[dict[str, Any]]] = {}
        for number, shape in enumerate(the_field(content, "shapes", list, str(file))):
            if the_field(shape, "shape_type", str, str(file)) != "polygon":
                raise InputError(f"{file} has a {shape['shape_type']}; only polygons are read, so redraw it as one")
            group = shape.get("everymask_id") or ("group", shape.get("group_id"), shape.get("label"))
            groups.setdefault(group if shape.get("group_id") is not None else (group, number), []).append(shape)
        try:
            masks = tuple(
                polygon_mask(
                    [[value for point in shape["points"] for value in point] for shape in shapes],
                    str(shapes[0]["label"]),
                    shapes[0].get("everymask_id"),
                    size,
                )
                for shapes in groups.values()
            )
        except _DAMAGED as error:
            raise InputError(f"{file} has a polygon that cannot be read ({error}); redraw it") from error
        tolerance = content.get("everymask_tolerance_px") or 0.0
        found.append(_beside(content, file, size, masks, float(tolerance)))
    return found


def read_labelme(path: Path) -> list[ReviewedImage]:
    """LabelMe's JSON files: those whose flag `reviewed` a person has set."""
    found = []
    for file in _json_files(path):
        content = read_json(file)
        if not isinstance(content, dict) or not (content.get("flags") or {}).get(REVIEWED_FLAG):
            continue
        size = _size_of(content, file)
        masks = []
        for shape in the_field(content, "shapes", list, str(file)):
            label, kind = the_field(shape, "label", str, str(file)), the_field(shape, "shape_type", str, str(file))
            mask_id = shape.get("everymask_id")
            try:
                if kind == "mask":
                    masks.append(ReviewedMask(read_mask_shape(shape, size), label, mask_id))
                elif kind == "polygon":
                    ring = [float(value) for point in shape["points"] for value in point]
                    masks.append(polygon_mask([ring], label, mask_id, size))
                else:
                    raise InputError(f"{file} has a {kind}; only masks and polygons are read, so redraw it as one")
            except _DAMAGED as error:
                raise InputError(f"{file} has a {kind} that cannot be read ({error}); redraw it") from error
        found.append(_beside(content, file, size, tuple(masks), 0.0))
    return found


def read_cvat(path: Path) -> list[ReviewedImage]:
    """CVAT for images 1.1: every image of the file."""
    data = read_file(path)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError(f"{path} declares entities, which CVAT never writes; it is not read")
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise InputError(f"{path} is not complete XML ({error}); export it again from CVAT") from error
    found = []
    for image in root.iter("image"):
        name = image.get("name", "")
        try:
            size = int(image.attrib["height"]), int(image.attrib["width"])
            masks = [_cvat_mask(element, size) for element in image if element.tag in ("mask", "polygon")]
        except _DAMAGED as error:
            raise InputError(f"image {name} of {path} cannot be read ({error}); export it again from CVAT") from error
        found.append(ReviewedImage(name, None, size, tuple(masks)))
    return found


def _cvat_mask(element: ET.Element, size: tuple[int, int]) -> ReviewedMask:
    attributes = {one.get("name"): one.text for one in element.iter("attribute")}
    mask_id, label = attributes.get(ID_ATTRIBUTE), element.attrib["label"]
    if element.tag == "polygon":
        ring = [float(value) for point in element.attrib["points"].split(";") for value in point.split(",")]
        return polygon_mask([ring], label, mask_id, size)
    box = int(element.attrib["height"]), int(element.attrib["width"])
    if not (0 < box[0] <= size[0] and 0 < box[1] <= size[1]):
        raise ValueError(f"a mask of {box[1]} x {box[0]} pixels")
    runs = np.array([int(run) for run in element.attrib["rle"].split(",")], dtype=np.int64)
    corner = int(float(element.attrib["left"])), int(float(element.attrib["top"]))
    return ReviewedMask(rle_from_crop(crop_of_runs(runs, box), corner, size), label, mask_id)


def read_coco(path: Path) -> list[ReviewedImage]:
    """COCO instances: every image of the file."""
    content = read_json(path)
    images = {image.get("id"): image for image in the_field(content, "images", list, str(path))}
    names = {item.get("id"): item.get("name") for item in the_field(content, "categories", list, str(path))}
    masks: dict[Any, list[ReviewedMask]] = {number: [] for number in images}
    for annotation in the_field(content, "annotations", list, str(path)):
        where = f"annotation {annotation.get('id')} of {path}"
        image = images.get(annotation.get("image_id"))
        if image is None or annotation.get("category_id") not in names:
            raise InputError(f"{where} belongs to no image or no category of the file; export it again")
        size = the_field(image, "height", int, where), the_field(image, "width", int, where)
        attributes = annotation.get("attributes") or {}
        mask_id = annotation.get("everymask_id") or attributes.get("everymask_id")
        label = str(names[annotation["category_id"]])
        segmentation = annotation.get("segmentation")
        try:
            if isinstance(segmentation, dict):
                masks[image["id"]].append(ReviewedMask(_coco_rle(segmentation, size), label, mask_id))
            else:
                masks[image["id"]].append(polygon_mask(segmentation or [], label, mask_id, size))
        except _DAMAGED as error:
            raise InputError(f"{where} has a mask that cannot be read ({error})") from error
    tolerance = float((content.get("info") or {}).get("everymask_tolerance_px", 0.0))
    return [
        ReviewedImage(
            name=str(image.get("file_name")),
            image_id=image.get("everymask_image_id"),
            size_hw=(the_field(image, "height", int, str(path)), the_field(image, "width", int, str(path))),
            masks=tuple(masks[number]),
            tolerance_px=tolerance,
        )
        for number, image in images.items()
    ]


def _coco_rle(segmentation: dict[str, Any], size: tuple[int, int]) -> Rle:
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"it is of {segmentation['size'][1]} x {segmentation['size'][0]} pixels")
    if isinstance(segmentation["counts"], str):
        return rle_from_runs(rle_runs(Rle(size=list(size), counts=segmentation["counts"])), size)
    return rle_from_runs(segmentation["counts"], size)


def _json_files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*.json")) if file.name[0] != "."]
    if not files:
        raise InputError(f"{path} holds no .json file; give the folder that the tool has written to")
    return files


def _size_of(content: dict[str, Any], file: Path) -> tuple[int, int]:
    size = the_field(content, "imageHeight", int, str(file)), the_field(content, "imageWidth", int, str(file))
    if not 0 < size[0] * size[1] <= _MAX_PIXELS:
        raise InputError(f"{file} is of an image of {size[1]} x {size[0]} pixels")
    return size


def _beside(
    content: dict[str, Any], file: Path, size: tuple[int, int], masks: tuple[ReviewedMask, ...], tolerance_px: float
) -> ReviewedImage:
    name = str(content.get("imagePath") or file.stem)
    return ReviewedImage(name, content.get("everymask_image_id"), size, masks, None, None, tolerance_px)


READERS: dict[EditingFormat, Callable[[Path], list[ReviewedImage]]] = {
    "label-studio": read_label_studio,
    "x-anylabeling": read_x_anylabeling,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "coco": read_coco,
}
