"""COCO instance JSON (https://cocodataset.org/#format-data): what pycocotools and every trainer read.

Every mask is one annotation with `iscrowd` 0 and the area and box of the mask itself, in order of image id. An
annotation also has the store's `score`, `predicted_iou`, `stability_score` and, for classes, `uncertainty`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from everymask.formats.format import Destination, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.outlines import coco_polygons
from everymask.formats.spool import Spool
from everymask.masks.checked import fill_polygons
from everymask.masks.runs import rles_from_runs, runs_of_rles
from everymask.records import LabelledMask, Rle

_CHARACTERS_AT_ONCE = 1 << 16
"""Of run-length text. Worked on, each takes some hundred bytes."""


def coco_segmentations_of(
    masks: Sequence[LabelledMask], size_hw: tuple[int, int], options: ExportOptions
) -> tuple[list[Any], list[Rle]]:
    """The masks of an image of `size_hw` as `segmentation`, and what a reader makes of each."""
    rles = [mask.rle for mask in masks]
    if options.segmentation == "rle":
        return list(rles), rles
    if options.segmentation == "uncompressed":
        runs = [counts.tolist() for counts in runs_of_rles(rles)]
        read = rles_from_runs([np.array(counts, dtype=np.int64) for counts in runs], size_hw)
        return [{"size": list(size_hw), "counts": counts} for counts in runs], read
    polygons = [coco_polygons(mask, options.tolerance_px) for mask in masks]
    return list(polygons), [fill_polygons(rings, size_hw) for rings in polygons]


def _groups(masks: Sequence[LabelledMask]) -> Iterator[list[LabelledMask]]:
    """The masks in order: small ones together, which spares work, and large ones alone, which spares memory."""
    group: list[LabelledMask] = []
    characters = 0
    for mask in masks:
        group.append(mask)
        characters += len(mask.rle["counts"])
        if characters > _CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group


def coco_annotation(mask: LabelledMask, segmentation: Any, image_number: int, category_id: int) -> dict[str, Any]:
    """One mask as a COCO annotation, without its number in the file.

    Args:
        mask: the mask.
        segmentation: its outline or run lengths.
        image_number: the image's id in the file.
        category_id: from 1.
    """
    x0, y0, x1, y1 = mask.box_xyxy
    annotation: dict[str, Any] = {
        "everymask_id": mask.mask_id,
        "image_id": image_number,
        "category_id": category_id,
        "segmentation": segmentation,
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


def categories(names: list[str]) -> list[dict[str, Any]]:
    """COCO's list of classes, ids from 1."""
    return [{"id": index + 1, "name": name, "supercategory": ""} for index, name in enumerate(names)]


class CocoWriter:
    """Writes one file; images and annotations wait on disk until their order is known."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._options = options
        self._images = Spool(destination.folder / "images.spool")
        self._annotations = Spool(destination.folder / "annotations.spool")

    def add(self, exported: ExportedImage) -> list[Rle]:
        """See `Writer`."""
        height, width = exported.labels.size_hw
        entry = {"id": exported.number, "file_name": exported.name, "width": width, "height": height}
        if exported.name != exported.image.image_id:
            entry["everymask_image_id"] = exported.image.image_id
        self._images.add(exported.number, json.dumps(entry).encode())
        lines: list[str] = []
        written: list[Rle] = []
        for masks in _groups(exported.labels.masks):
            segmentations, read = coco_segmentations_of(masks, exported.labels.size_hw, self._options)
            for mask, segmentation in zip(masks, segmentations, strict=True):
                category = self._destination.names.index(mask) + 1
                lines.append(json.dumps(coco_annotation(mask, segmentation, exported.number, category)))
            written += read
        self._annotations.add(exported.number, "\n".join(lines).encode())
        return written

    def close(self) -> None:
        """See `Writer`."""
        info = {"description": "everymask", "version": self._options.model_version}
        if self._options.tolerance_px:
            info["everymask_tolerance_px"] = str(self._options.tolerance_px)
        with (self._destination.folder / self._destination.main).open("wb") as stream:
            stream.write(b'{"info": ' + json.dumps(info).encode() + b', "licenses": [],\n"images": [')
            for number, piece in enumerate(self._images.pieces()):
                stream.write((b",\n" if number else b"\n") + piece)
            stream.write(b'],\n"annotations": [')
            number = 0
            for piece in self._annotations.pieces():
                for line in piece.splitlines():
                    stream.write(b'%s{"id": %d, ' % (b",\n" if number else b"\n", number + 1) + line[1:])
                    number += 1
            stream.write(b'],\n"categories": ')
            stream.write(json.dumps(categories(self._destination.names.dense())).encode() + b"}\n")


COCO = Format(
    name="coco",
    summary="COCO instances, one JSON file: pycocotools, torchvision, detectron2, supervision, CVAT, FiftyOne",
    suffix=".json",
    naming=Naming.IMAGE_ID,
    keeps=frozenset(Keeps),
    exact=True,
    writer=CocoWriter,
    segmentations=("rle", "uncompressed", "polygon"),
    tolerance_px=0.0,
)
