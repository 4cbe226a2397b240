"""COCO instance JSON (https://cocodataset.org/#format-data), read by pycocotools and most trainers.

`coco` is one file; `coco-folders` and `coco-roboflow` are trainers' folder layouts with a file for each split.

Every mask is one annotation with `iscrowd` 0 and its own area and box, in order of image id. Annotations also hold the
store's `score`, `predicted_iou`, `stability_score` and, for classes, `uncertainty`. Images of method concepts hold
`presence`, by class.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.formats.format import (
    Destination,
    Ended,
    ExportedImage,
    ExportOptions,
    Format,
    Keeps,
    Naming,
    training_script,
)
from everymask.formats.outlines import simple_polygons_and_masks
from everymask.formats.spliced_json import PLACE, flat_lists, spliced_json, whole_pixels
from everymask.formats.spool import Spool
from everymask.masks.column_runs import ColumnRuns
from everymask.masks.edge_polygons import edge_polygon_runs
from everymask.masks.polygons import joined_polygons
from everymask.masks.runs import rles_from_runs, runs_of_rles
from everymask.records import LabelledMask, Rle

_IMAGES, _ANNOTATIONS = "images-{}", "annotations-{}"
"""Names of spools, by folder."""
_CHARACTERS_AT_ONCE = 1 << 16
"""Characters of run-length text processed at once; each takes some hundred bytes of memory."""


def coco_segmentations_of(
    masks: Sequence[LabelledMask], size_hw: tuple[int, int], options: ExportOptions
) -> tuple[list[str], list[Rle]]:
    """An image's masks as COCO `segmentation` values, JSON already, and the masks that a reader gets from them."""
    rles = [mask.rle for mask in masks]
    if options.segmentation == "rle":
        return [json.dumps(rle) for rle in rles], rles
    if options.segmentation == "uncompressed":
        runs = [counts.tolist() for counts in runs_of_rles(rles)]
        read = rles_from_runs([np.array(counts, dtype=np.int64) for counts in runs], size_hw)
        return [json.dumps({"size": list(size_hw), "counts": counts}) for counts in runs], read
    polygons: Sequence[Sequence[NDArray[np.number]]]
    if options.tolerance_px:
        polygons, read = simple_polygons_and_masks(masks, size_hw, options.tolerance_px)
    else:
        stored = ColumnRuns.of_rles(rles, size_hw)
        polygons = joined_polygons(stored, len(rles))
        read = edge_polygon_runs(polygons, size_hw).rles_of_copies(stored, rles)
    height, width = size_hw
    rings = iter(flat_lists(list(chain.from_iterable(polygons)), whole_pixels(width), whole_pixels(height)))
    texts = [f"[{', '.join(islice(rings, len(of_mask)))}]" for of_mask in polygons]
    return texts, read


def _groups(masks: Sequence[LabelledMask]) -> Iterator[list[LabelledMask]]:
    """The masks in order, small ones grouped to save work and large ones alone to save memory."""
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


def coco_annotation(mask: LabelledMask, segmentation: str, image_number: int, category_id: int) -> str:
    """One mask as a COCO annotation, in JSON, without its own id.

    `segmentation` is JSON; `category_id` counts from 1.
    """
    x0, y0, x1, y1 = mask.box_xyxy
    annotation: dict[str, Any] = {
        "everymask_id": mask.mask_id,
        "image_id": image_number,
        "category_id": category_id,
        "segmentation": PLACE,
        "area": mask.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": 0,
        "score": mask.score,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
    }
    if mask.uncertainty is not None:
        annotation["uncertainty"] = mask.uncertainty
    return spliced_json(annotation, [segmentation])


def categories(names: list[str], supercategory: str = "") -> list[dict[str, Any]]:
    """COCO's list of classes, ids from 1."""
    return [{"id": index + 1, "name": name, "supercategory": supercategory} for index, name in enumerate(names)]


@dataclass(frozen=True)
class Layout:
    """Differences between trainers' COCO layouts.

    Attributes:
        file: path of a split's file in the export; `{split}` stands for the split's folder.
        first_id: of images and annotations.
        supercategory: of every class; if set, it is category 0, as in Roboflow's files.
        val_folder: folder name of the split `val`.
    """

    file: str
    first_id: int = 1
    supercategory: str = ""
    val_folder: str = "val"

    def categories(self, names: list[str]) -> list[dict[str, Any]]:
        """COCO's list of classes, ids from 1, after the supercategory if there is one."""
        listed = categories(names, self.supercategory)
        if not self.supercategory:
            return listed
        return [{"id": 0, "name": self.supercategory, "supercategory": "none"}, *listed]

    def folder(self, split: str) -> str:
        return self.val_folder if split == "val" else split or "train"


class CocoWriter:
    """Writes images and annotations by split, if any; they wait on disk until their order is known.

    `layout` None means one file with the requested name.
    """

    def __init__(self, destination: Destination, options: ExportOptions, layout: Layout | None = None) -> None:
        self._destination = destination
        self._options = options
        self._layout = layout or Layout(destination.main)
        self._spools: dict[str, Spool] = {}

    def add(self, exported: ExportedImage) -> list[Rle]:
        height, width = exported.labels.size_hw
        number = exported.number - 1 + self._layout.first_id
        entry: dict[str, Any] = {"id": number, "file_name": exported.name, "width": width, "height": height}
        if exported.labels.presence is not None:
            entry["presence"] = dict(zip(self._destination.names.dense(), exported.labels.presence, strict=False))
        if exported.name != exported.image.image_id:
            entry["everymask_image_id"] = exported.image.image_id
        folder = self._layout.folder(exported.split)
        self._spool(_IMAGES.format(folder)).add(exported.number, json.dumps(entry).encode())
        lines: list[str] = []
        written: list[Rle] = []
        names = self._destination.names
        for masks in _groups(exported.labels.masks):
            segmentations, read = coco_segmentations_of(masks, exported.labels.size_hw, self._options)
            for mask, segmentation in zip(masks, segmentations, strict=True):
                lines.append(coco_annotation(mask, segmentation, number, names.index(mask) + 1))
            written += read
        self._spool(_ANNOTATIONS.format(folder)).add(exported.number, "\n".join(lines).encode())
        return written

    def _spool(self, purpose: str) -> Spool:
        if purpose not in self._spools:
            self._spools[purpose] = self._destination.spool(purpose)
        return self._spools[purpose]

    def end(self) -> Ended:
        for spool in self._spools.values():
            spool.end()
        return Ended({purpose: spool.path.name for purpose, spool in self._spools.items()})


def _write_files(
    destination: Destination, options: ExportOptions, ended: Sequence[Ended], layout: Layout | None = None
) -> None:
    """Write one file for each split, or one file if there are no splits."""
    layout = layout or Layout(destination.main)
    for folder in map(layout.folder, destination.splits or [""]):
        path = destination.folder / layout.file.format(split=folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        info = {"description": "everymask", "version": options.model_version}
        if options.tolerance_px:
            info["everymask_tolerance_px"] = str(options.tolerance_px)
        with path.open("wb") as stream:
            stream.write(b'{"info": ' + json.dumps(info).encode() + b', "licenses": [],\n"images": [')
            for number, piece in enumerate(destination.pieces(ended, _IMAGES.format(folder))):
                stream.write((b",\n" if number else b"\n") + piece)
            stream.write(b'],\n"annotations": [')
            number = 0
            for piece in destination.pieces(ended, _ANNOTATIONS.format(folder)):
                for line in piece.splitlines():
                    stream.write(b'%s{"id": %d, ' % (b",\n" if number else b"\n", number + layout.first_id) + line[1:])
                    number += 1
            stream.write(b'],\n"categories": ')
            stream.write(json.dumps(layout.categories(destination.names.dense())).encode() + b"}\n")


COCO = Format(
    name="coco",
    summary="COCO instances, one JSON file: pycocotools, torchvision, detectron2, supervision, CVAT, FiftyOne",
    suffix=".json",
    naming=Naming.IMAGE_ID,
    keeps=frozenset(Keeps),
    exact=True,
    writer=CocoWriter,
    close=_write_files,
    segmentations=("rle", "uncompressed", "polygon"),
    tolerance_px=0.0,
)

_FOLDERS = Layout("annotations/instances_{split}.json")
_ROBOFLOW = Layout("{split}/_annotations.coco.json", first_id=0, supercategory="objects", val_folder="valid")

COCO_FOLDERS = replace(
    COCO,
    name="coco-folders",
    summary="COCO instances in folders, annotations/instances_SPLIT.json and images in SPLIT/: torchvision, detectron2",
    suffix="",
    writer=partial(CocoWriter, layout=_FOLDERS),
    close=partial(_write_files, layout=_FOLDERS),
    image_folder="{split}",
    needs_images=True,
    has_splits=True,
    next_line=lambda output, options: f"python {training_script('mask_rcnn.py')} {shlex.quote(output)}",
)
COCO_ROBOFLOW = replace(
    COCO_FOLDERS,
    name="coco-roboflow",
    summary="COCO instances in Roboflow's folders, SPLIT/_annotations.coco.json beside the images: RF-DETR",
    writer=partial(CocoWriter, layout=_ROBOFLOW),
    close=partial(_write_files, layout=_ROBOFLOW),
    val_folder="valid",
    next_line=lambda output, options: (
        f'python -c "import rfdetr; rfdetr.RFDETRSegPreview().train(dataset_dir={shlex.quote(output)!r})"'
    ),
)
