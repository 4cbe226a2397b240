"""X-AnyLabeling (https://github.com/CVHub520/X-AnyLabeling): a JSON file beside each image.

It has no masks, only polygons without holes: parts are cut through their holes. The polygons of a mask share a
`group_id`, which its own exports merge. It keeps unknown keys, so ids come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from everymask.formats.class_names import ClassNames
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.labelme import image_beside, write_beside
from everymask.formats.outlines import simple_polygons_and_masks
from everymask.formats.spliced_json import PLACE, point_lists, spliced_json, whole_pixels
from everymask.records import LabelledMask, Rle

_VERSION = "4.2.1"


def x_anylabeling_shapes(mask: LabelledMask, group_id: int, polygons: Sequence[Any]) -> list[dict[str, Any]]:
    """One mask's polygons, each a list of points [x, y], as shapes of one group."""
    return [
        {
            "label": ClassNames.name(mask),
            "score": mask.score,
            "points": polygon,
            "group_id": group_id,
            "description": "",
            "difficult": False,
            "shape_type": "polygon",
            "flags": {},
            "attributes": {},
            "kie_linking": [],
            "everymask_id": mask.mask_id,
        }
        for polygon in polygons
    ]


class XAnyLabelingWriter:
    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._tolerance_px = options.tolerance_px

    def add(self, exported: ExportedImage) -> list[Rle]:
        height, width = exported.labels.size_hw
        masks = exported.labels.masks
        polygons, read = simple_polygons_and_masks(masks, (height, width), self._tolerance_px)
        shapes = []
        for number, (mask, of_mask) in enumerate(zip(masks, polygons, strict=True), start=1):
            shapes += x_anylabeling_shapes(mask, number, [PLACE] * len(of_mask))
        content = {
            "version": _VERSION,
            "flags": {},
            "checked": False,
            "shapes": shapes,
            **image_beside(exported),
            "everymask_tolerance_px": self._tolerance_px,
        }
        rings = list(chain.from_iterable(polygons))
        points = point_lists(rings, whole_pixels(width), whole_pixels(height))
        write_beside(self._destination, exported, spliced_json(content, points, ensure_ascii=False))
        return read

    def end(self) -> Ended:
        return Ended()


X_ANYLABELING = Format(
    name="x-anylabeling",
    summary="X-AnyLabeling, a JSON file with polygons beside each image",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset(Keeps),
    exact=True,
    writer=XAnyLabelingWriter,
    tolerance_px=1.0,
    image_folder="",
)
