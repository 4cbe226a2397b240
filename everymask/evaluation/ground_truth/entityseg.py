"""EntitySeg, and anything else in COCO's JSON of instances whose categories do not matter."""

from __future__ import annotations

import json
from pathlib import Path

from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth.coco import coco_rle
from everymask.evaluation.ground_truth.records import EntityTruth
from everymask.records import Rle


def read_entityseg(annotations: Path) -> dict[str, EntityTruth]:
    """Entities by `file_name`, which may name a folder too, of every image of a COCO-style JSON file.

    EntitySeg has one such file for its high and one for its low resolution. Categories are not looked at.

    Raises:
        ConfigurationError: there is no such file, or it is of another kind.
    """
    if not annotations.is_file():
        raise ConfigurationError(f"there is no file {annotations}; give the COCO-style JSON with --annotations")
    content = json.loads(annotations.read_text())
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise ConfigurationError(f"{annotations} is not COCO-style JSON: it needs `images` and `annotations`")
    entities: dict[int, list[tuple[Rle, bool]]] = {image["id"]: [] for image in content["images"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        image = annotation["image_id"]
        if image not in entities:
            raise ConfigurationError(f"{annotations} annotates image {image}, which it does not list; restore it")
        rle = coco_rle(annotation["segmentation"], sizes[image])
        entities[image].append((rle, bool(annotation.get("iscrowd", 0))))
    return {
        image["file_name"]: EntityTruth(
            size_hw=sizes[image["id"]],
            entities=tuple(rle for rle, _ in entities[image["id"]]),
            iscrowd=tuple(crowd for _, crowd in entities[image["id"]]),
        )
        for image in content["images"]
    }
