"""COCO instances: every image of the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from everymask.errors import InputError
from everymask.masks.checked import checked_corners, rle_from_coco
from everymask.review.reviewed import RefusedImage, ReviewedImage, ReviewedMask, box_ring, polygon_mask
from everymask.review.tool_files import fields


def read_coco(path: Path) -> list[ReviewedImage | RefusedImage]:
    """Every image of a file; InputError if the file is damaged or not COCO."""
    content = fields.read_json(path)
    try:
        images = {fields.key(image, "id"): image for image in fields.objects(content, "images")}
        names = {fields.key(item, "id"): item for item in fields.objects(content, "categories")}
        by_image: dict[str | int, list[dict[str, Any]]] = {number: [] for number in images}
        strays = 0
        for annotation in fields.objects(content, "annotations"):
            number = annotation.get("image_id")
            if isinstance(number, (int, str)) and number in by_image:
                by_image[number].append(annotation)
            else:
                strays += 1
        tolerance_px = fields.tolerance_px(fields.an_object(content, "info"), "everymask_tolerance_px")
    except InputError as error:
        raise InputError(f"{path} is no COCO file: {error}") from error
    found: list[ReviewedImage | RefusedImage] = []
    for number, image in images.items():
        name = fields.text(image, "file_name") or f"image {number}"
        try:
            found.append(_image(name, image, by_image[number], names, tolerance_px))
        except InputError as error:
            found.append(RefusedImage(name, f"image {name} of {path} cannot be read: {error}"))
    if strays:
        found.append(
            RefusedImage(str(path), f"{strays:,} annotations of {path} belong to none of its images; they are left out")
        )
    return found


def _image(
    name: str,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    names: dict[str | int, dict[str, Any]],
    tolerance_px: float,
) -> ReviewedImage:
    size_hw = fields.size(image, "height", "width")
    masks = []
    ignored: Counter[str] = Counter()
    for annotation in annotations:
        category = annotation.get("category_id")
        if not isinstance(category, (int, str)) or category not in names:
            raise InputError(f"annotation {annotation.get('id')} is of no category of the file; export it again")
        label = fields.class_name(names[category], "name")
        try:
            mask = _mask(annotation, label, size_hw)
        except InputError as error:
            raise InputError(f"annotation {annotation.get('id')} has a mask that cannot be read: {error}") from error
        if mask is None:
            ignored["annotation without a shape"] += 1
        else:
            masks.append(replace(mask, is_group=bool(annotation.get("iscrowd"))))
    return ReviewedImage(
        name=name,
        image_id=fields.text(image, "everymask_image_id"),
        size_hw=size_hw,
        masks=tuple(masks),
        tolerance_px=tolerance_px,
        ignored=ignored,
    )


def _mask(annotation: dict[str, Any], label: str, size_hw: tuple[int, int]) -> ReviewedMask | None:
    """The mask of an annotation's segmentation or box; None if it has neither."""
    mask_id = fields.text(annotation, "everymask_id")
    if mask_id is None:
        mask_id = fields.text(fields.an_object(annotation, "attributes"), "everymask_id")
    segmentation = annotation.get("segmentation")
    if segmentation:
        rle = rle_from_coco(segmentation, size_hw)
        rings = segmentation if isinstance(segmentation, list) else []
        return ReviewedMask(rle, label, mask_id, tuple(tuple(map(float, ring)) for ring in rings))
    if annotation.get("area") == 0:
        return polygon_mask([], label, mask_id, size_hw)
    if not annotation.get("bbox"):
        return None
    corners = checked_corners(annotation["bbox"], size_hw).ravel().tolist()
    if len(corners) != 4:
        raise InputError(f"its bbox has {len(corners)} numbers, not x, y, width and height")
    x, y, width, height = corners
    return polygon_mask([box_ring((x, y, x + width, y + height), 0.0)], label, mask_id, size_hw, "box")
