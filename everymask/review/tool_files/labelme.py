"""LabelMe's JSON files beside images: those with the flag `reviewed`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from everymask.errors import InputError
from everymask.formats.labelme import REVIEWED_FLAG, read_mask_shape
from everymask.review.reviewed import RefusedImage, ReviewedImage, ReviewedMask, polygon_mask
from everymask.review.tool_files import fields


def read_labelme(path: Path) -> list[ReviewedImage | RefusedImage]:
    """Every image that a person reviewed; InputError if the folder holds no such file."""
    return read_beside(path, lambda content: bool(fields.an_object(content, "flags").get(REVIEWED_FLAG)), _masks)


def read_beside(
    path: Path,
    is_finished: Callable[[dict[str, Any]], bool],
    masks_of: Callable[[dict[str, Any], tuple[int, int]], list[ReviewedMask]],
) -> list[ReviewedImage | RefusedImage]:
    """Finished images of a file, or of a folder with a file beside each image.

    Args:
        is_finished: whether a person finished the file's image.
        masks_of: its masks, given its size.

    Raises:
        InputError: the folder holds no such file.
    """
    found: list[ReviewedImage | RefusedImage] = []
    for file in fields.json_files(path):
        try:
            content = fields.read_json(file)
            if not isinstance(content, dict) or not is_finished(content):
                continue
            size_hw = fields.size(content, "imageHeight", "imageWidth")
            found.append(
                ReviewedImage(
                    name=fields.text(content, "imagePath") or file.stem,
                    image_id=fields.text(content, "everymask_image_id"),
                    size_hw=size_hw,
                    masks=tuple(masks_of(content, size_hw)),
                    tolerance_px=fields.tolerance_px(content, "everymask_tolerance_px"),
                )
            )
        except InputError as error:
            problem = str(error) if str(file) in str(error) else f"{file} cannot be read: {error}"
            found.append(RefusedImage(str(file), problem))
    return found


def _masks(content: dict[str, Any], size_hw: tuple[int, int]) -> list[ReviewedMask]:
    masks = []
    for shape in fields.objects(content, "shapes"):
        label, kind = fields.class_name(shape, "label"), shape.get("shape_type")
        mask_id = fields.text(shape, "everymask_id")
        if kind == "mask":
            masks.append(ReviewedMask(read_mask_shape(shape, size_hw), label, mask_id))
        elif kind == "polygon":
            masks.append(polygon_mask([fields.ring(shape.get("points"))], label, mask_id, size_hw))
        else:
            raise InputError(f"it has a {kind}; only masks and polygons are read, so redraw it as one")
    return masks
