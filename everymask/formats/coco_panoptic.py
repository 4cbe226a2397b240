"""COCO panoptic (https://cocodataset.org/#format-data): a JSON file and a PNG for each image.

    annotations/panoptic_default.json
    annotations/panoptic_default/IMAGE without ending.png     segment id = R + 256 G + 65,536 B, 0 is no segment

Every pixel has at most one segment: entities fit exactly, class masks that overlap lose pixels to the higher score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.formats.coco import categories
from everymask.formats.flat_png import flat_png
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.naming import stem_path
from everymask.masks.painting import label_map_by_score
from everymask.masks.rle import boxes_from_rles, encode_label_map, rle_areas
from everymask.records import Rle

_NAME = "panoptic_default"


def segment_colours(segments: NDArray[np.int32]) -> NDArray[np.uint8]:
    """(H, W) segment ids → (H, W, 3) uint8 colours."""
    return np.ascontiguousarray(segments, dtype="<u4").view(np.uint8).reshape(*segments.shape, 4)[:, :, :3]


class CocoPanopticWriter:
    """Writes PNG files as images arrive, and the JSON file at the end."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._folder = destination.folder / "annotations"
        (self._folder / _NAME).mkdir(parents=True, exist_ok=True)
        self._images = destination.spool("images")
        self._annotations = destination.spool("annotations")

    def add(self, exported: ExportedImage) -> list[Rle]:
        labels = exported.labels
        height, width = labels.size_hw
        numbers = label_map_by_score(labels)
        file_name = f"{stem_path(exported.name)}.png"
        path = self._folder / _NAME / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(flat_png(segment_colours(numbers + 1)))
        written = encode_label_map(numbers, len(labels.masks))
        entry = {"id": exported.number, "file_name": exported.name, "width": width, "height": height}
        self._images.add(exported.number, json.dumps(entry).encode())
        annotation = {
            "image_id": exported.number,
            "file_name": file_name,
            "segments_info": self._segments(exported, written),
        }
        self._annotations.add(exported.number, json.dumps(annotation).encode())
        return written

    def _segments(self, exported: ExportedImage, written: list[Rle]) -> list[dict[str, Any]]:
        if not written:
            return []
        areas, boxes = rle_areas(written).tolist(), boxes_from_rles(written).tolist()
        return [
            {
                "id": number,
                "category_id": self._destination.names.index(mask) + 1,
                "area": area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "score": mask.score,
                "everymask_id": mask.mask_id,
            }
            for number, (mask, area, (x0, y0, x1, y1)) in enumerate(
                zip(exported.labels.masks, areas, boxes, strict=True), start=1
            )
            if area
        ]

    def end(self) -> Ended:
        self._images.end()
        self._annotations.end()
        return Ended({"images": self._images.path.name, "annotations": self._annotations.path.name})


def _write_list(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    listed = [item | {"isthing": 1} for item in categories(destination.names.dense())]
    with (destination.folder / "annotations" / f"{_NAME}.json").open("wb") as stream:
        stream.write(b'{"info": {"description": "everymask"}, "licenses": []')
        for name in ("images", "annotations"):
            stream.write(f',\n"{name}": ['.encode())
            for number, piece in enumerate(destination.pieces(ended, name)):
                stream.write((b",\n" if number else b"\n") + piece)
            stream.write(b"]")
        stream.write(b',\n"categories": ' + json.dumps(listed).encode() + b"}\n")


COCO_PANOPTIC = Format(
    name="coco-panoptic",
    summary="COCO panoptic, a JSON file and a PNG for each image: panopticapi, detectron2, Mask2Former, Datumaro",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset({Keeps.IDS, Keeps.SCORES, Keeps.HOLES, Keeps.PARTS}),
    exact=True,
    writer=CocoPanopticWriter,
    close=_write_list,
    image_folder="images/default",
    draws_masks=True,
)
