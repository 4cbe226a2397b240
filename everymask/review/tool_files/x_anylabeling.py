"""X-AnyLabeling's JSON files that a person checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from everymask.errors import InputError
from everymask.review.reviewed import RefusedImage, ReviewedImage, ReviewedMask, polygon_mask
from everymask.review.tool_files import fields
from everymask.review.tool_files.labelme import read_beside


def read_x_anylabeling(path: Path) -> list[ReviewedImage | RefusedImage]:
    """Every image that a person checked; InputError if the folder holds no such file."""
    return read_beside(path, lambda content: content.get("checked") is True, _masks)


def _masks(content: dict[str, Any], size_hw: tuple[int, int]) -> list[ReviewedMask]:
    """The masks; polygons of one group are one mask."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for number, shape in enumerate(fields.objects(content, "shapes")):
        if shape.get("shape_type") != "polygon":
            raise InputError(f"it has a {shape.get('shape_type')}; only polygons are read, so redraw it as one")
        group = shape.get("group_id")
        name = fields.text(shape, "everymask_id") or f"group {group} of {shape.get('label')}"
        groups.setdefault((name,) if group is not None else (name, str(number)), []).append(shape)
    return [
        polygon_mask(
            [fields.ring(shape.get("points")) for shape in shapes],
            fields.class_name(shapes[0], "label"),
            fields.text(shapes[0], "everymask_id"),
            size_hw,
        )
        for shapes in groups.values()
    ]
