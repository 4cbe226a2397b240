"""COCO instance JSON (https://cocodataset.org/#format-data): what pycocotools and every trainer read.

Every mask is one annotation with `iscrowd` 0 and the area and box of the mask itself. Encodings keep masks exactly. An
annotation also has the store's `score`, `predicted_iou`, `stability_score` and, for classes, `uncertainty`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from everymask.formats.exported import ExportCounts, class_of, dense_names, known_class_names, labelled_images
from everymask.labels.store import LabelStore
from everymask.masks.polygons import coco_segmentation
from everymask.masks.rle import decode_mask
from everymask.records import LabelledMask
from everymask.storage import open_whole, resolve

Segmentation = Literal["rle", "polygon"]


def coco_annotation(
    mask: LabelledMask, annotation_id: int, image_id: int, category_id: int, segmentation: Segmentation = "rle"
) -> dict[str, Any]:
    """One mask as a COCO annotation.

    Args:
        mask: the mask.
        annotation_id: unique in the file, from 1.
        image_id: the image's number in the file.
        category_id: from 1.
        segmentation: `rle`, the compressed encoding, or `polygon`, outlines along pixel edges with holes cut in.
    """
    x0, y0, x1, y1 = mask.box_xyxy
    annotation: dict[str, Any] = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": mask.rle if segmentation == "rle" else coco_segmentation(decode_mask(mask.rle)),
        "area": mask.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": 0,
        "score": mask.score,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
    }
    if mask.uncertainty is not None:
        annotation["uncertainty"] = mask.uncertainty
    return annotation


def to_coco(store: LabelStore, output: str, segmentation: Segmentation = "rle") -> ExportCounts:
    """Write a label store as one COCO file, whole or not at all, in memory that does not grow with the store.

    `file_name` is the image id; `category_id` is class_id + 1, or 1 (`entity`) for masks without a class. Images with
    an error are left out.

    Raises:
        InputError: there is no label store.
        ConfigurationError: the store mixes class lists.
        OutputError: the file cannot be written.
    """
    names = known_class_names(store)
    filesystem, path = resolve(output)
    images = errors = 0
    masks = 0
    with open_whole(filesystem, path) as stream:
        stream.write(b'{"info": {"description": "everymask"}, "licenses": [],\n"images": [')
        for batch in store.batches(["image_id", "width", "height", "status"], batch_size=4096):
            for row in batch.to_pylist():
                if row["status"] == "error":
                    errors += 1
                    continue
                images += 1
                entry = {"id": images, "file_name": row["image_id"], "width": row["width"], "height": row["height"]}
                stream.write(_item(entry, first=images == 1))
        stream.write(b'],\n"annotations": [')
        for annotation in _annotations(store, names, segmentation):
            masks += 1
            stream.write(_item(annotation, first=masks == 1))
        stream.write(b'],\n"categories": ')
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(dense_names(names) or ["entity"])]
        stream.write(json.dumps(categories).encode() + b"}\n")
    return ExportCounts(images, masks, errors)


def _annotations(store: LabelStore, names: dict[int, str], segmentation: Segmentation) -> Iterator[dict[str, Any]]:
    number = 0
    # Both passes read the store in the same order, so that the n-th labelled image has number n in both.
    for image_number, (_, labels) in enumerate(labelled_images(store), start=1):
        for mask in labels.masks:
            number += 1
            yield coco_annotation(mask, number, image_number, class_of(mask, names) + 1, segmentation)


def _item(entry: dict[str, Any], first: bool) -> bytes:
    return (b"\n" if first else b",\n") + json.dumps(entry).encode()
