"""EntitySeg, and any COCO instance JSON whose categories do not matter."""

from __future__ import annotations

from pathlib import Path

from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth.coco_file import annotated_rle, json_object, named_in_errors
from everymask.evaluation.ground_truth.records import EntityTruth
from everymask.masks.checked import checked_size
from everymask.records import Rle


def read_entityseg(annotations: Path) -> dict[str, EntityTruth]:
    """Entities by `file_name` (which may include a folder) for all images of a COCO-style JSON file.

    EntitySeg has one such file for its high and one for its low resolution. Categories are ignored.

    Raises:
        ConfigurationError: the file is missing or of another kind.
    """
    if not annotations.is_file():
        raise ConfigurationError(f"there is no file {annotations}; give the COCO-style JSON with --annotations")
    content = json_object(annotations)
    if not {"images", "annotations"} <= content.keys():
        raise ConfigurationError(f"{annotations} is not COCO-style JSON: it needs `images` and `annotations`")
    with named_in_errors(annotations):
        sizes = {image["id"]: checked_size(image["height"], image["width"]) for image in content["images"]}
        entities: dict[int, list[tuple[Rle, bool]]] = {number: [] for number in sizes}
        for annotation in content["annotations"]:
            image = annotation["image_id"]
            if image not in entities:
                raise ConfigurationError(f"{annotations} annotates image {image}, which it does not list; restore it")
            entities[image].append((annotated_rle(annotation, sizes[image]), bool(annotation.get("iscrowd", 0))))
        return {
            str(image["file_name"]): EntityTruth(
                size_hw=sizes[image["id"]],
                entities=tuple(rle for rle, _ in entities[image["id"]]),
                iscrowd=tuple(crowd for _, crowd in entities[image["id"]]),
            )
            for image in content["images"]
        }
