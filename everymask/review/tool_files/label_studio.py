"""Label Studio's JSON: each task's newest annotation that was not cancelled."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from everymask.errors import InputError
from everymask.formats import label_studio
from everymask.masks.checked import check_class_name
from everymask.masks.rle import decode_mask, encode_mask
from everymask.review.reviewed import RefusedImage, ReviewedImage, ReviewedMask
from everymask.review.tool_files import fields

_MASK_TYPES = frozenset(tag.lower() for tag in label_studio.TAGS.values())
_PIECE_OF_OURS = re.compile(r"([0-9a-f]{24})(?:-\d+)?")
"""Ids of exported pieces: the mask's id and `-` with a number. Label Studio's own ids may hold `-` too."""


def read_label_studio(path: Path) -> list[ReviewedImage | RefusedImage]:
    """Every task that a person submitted; InputError if the file is damaged or not a list of tasks."""
    tasks = fields.read_json(path)
    if not isinstance(tasks, list):
        raise InputError(
            f"{path} is not Label Studio's JSON export, which is a list of tasks; choose JSON, not JSON-MIN"
        )
    found: list[ReviewedImage | RefusedImage] = []
    for number, task in enumerate(tasks, start=1):
        where = f"task {number} of {path.name}"
        try:
            image = _image(task)
        except InputError as error:
            found.append(RefusedImage(where, f"{where} cannot be read: {error}"))
        else:
            if image is not None:
                found.append(image)
    return found


def _image(task: Any) -> ReviewedImage | None:
    if not isinstance(task, dict):
        raise InputError("it is no JSON object; export it again from the tool")
    annotations = fields.objects(task, "annotations") if "annotations" in task else []
    submitted = [one for one in annotations if not one.get("was_cancelled")]
    if not submitted:
        return None
    latest = max(submitted, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
    data = fields.an_object(task, "data")
    image_id = fields.text(data, "image_id")
    ignored: Counter[str] = Counter()
    masks, size_hw = _masks(fields.objects(latest, "result"), ignored)
    who = latest.get("completed_by")
    return ReviewedImage(
        name=image_id or fields.text(data, label_studio.TO_NAME) or "",
        image_id=image_id,
        size_hw=size_hw,
        masks=masks,
        annotator=fields.text(who, "email") if isinstance(who, dict) else fields.text(latest, "completed_by"),
        corrected_at=fields.text(latest, "updated_at") or fields.text(latest, "created_at"),
        tolerance_px=fields.tolerance_px(fields.an_object(task, "meta"), "tolerance_px"),
        ignored=ignored,
    )


def _masks(result: list[dict[str, Any]], ignored: Counter[str]) -> tuple[tuple[ReviewedMask, ...], tuple[int, int]]:
    """The masks of a result, polygon pieces joined, and the image's size; (0, 0) if nothing gives it."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for number, region in enumerate(result):
        if str(region.get("type")) not in _MASK_TYPES:
            ignored[str(region.get("type"))[:40]] += 1
            continue
        name = fields.text(region, "id") or f"region {number}"
        piece = _PIECE_OF_OURS.fullmatch(name)
        groups.setdefault(piece[1] if piece else name, []).append(region)
    size_hw = (0, 0)
    masks = []
    for name, regions in groups.items():
        if size_hw == (0, 0):
            size_hw = fields.size(regions[0], "original_height", "original_width")
        masks.append(_mask(name, regions, size_hw))
    return tuple(masks), size_hw


def _mask(name: str, regions: list[dict[str, Any]], size_hw: tuple[int, int]) -> ReviewedMask:
    labels = fields.an_object(regions[0], "value").get(regions[0]["type"])
    if not isinstance(labels, list) or not labels:
        raise InputError(f"region {name} has no label; give it one in Label Studio")
    check_class_name(labels[0])
    rles = [label_studio.read_region(region, size_hw) for region in regions]
    scale = np.array([size_hw[1] / 100, size_hw[0] / 100])
    polygons = tuple(
        tuple((np.asarray(region["value"]["points"], dtype=np.float64) * scale).ravel().tolist())
        for region in regions
        if "points" in region["value"]
    )
    rle = rles[0] if len(rles) == 1 else encode_mask(np.logical_or.reduce([decode_mask(one) for one in rles]))
    return ReviewedMask(rle, labels[0], name, polygons)
